"""What the evaluator does about events: shards, resume, fan-in, weak slices, sealed items, measuring again."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from builders import event
from evaluator_world import BASE, VERBS, QuotingModel, World

from mendloop.artifacts import lineage
from mendloop.artifacts.store import Artifact
from mendloop.artifacts.tables import get_rows
from mendloop.core.errors import Interrupted, InvalidEvent, Permanent
from mendloop.core.fixes import Fix
from mendloop.core.records import Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.wire import artifact_of, artifact_ref, conditions_of, fix_messages
from mendloop.evaluator import measurement
from mendloop.evaluator.handlers import (
    handlers,
    on_checkpoint_ready,
    on_evaluation_shard,
    on_intervention_planned,
    on_shard_scored,
)
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, knows=("walk", "look", "run"))


def test_a_checkpoint_is_cut_into_shards_that_carry_their_cause(world: World) -> None:
    ready = world.ready()

    emits = on_checkpoint_ready(event(ready), ports=world.ports)

    shards = [emit.message for emit in emits]
    assert all(isinstance(shard, evaluation_pb2.EvaluationShard) for shard in shards)
    assert [emit.key for emit in emits] == [f"run-1/{shards[0].evaluation_id}/{i}" for i in range(2)]
    assert {emit.subject for emit in emits} == {"run-1"}
    assert all(shard.checkpoint_ready == ready and shard.shard_count == 2 for shard in shards)


def test_every_item_is_scored_once_and_metered(world: World) -> None:
    world.measured(world.ready())

    model = world.loader.models[BASE.sha256]
    prompts = [world.spec.prompt(i.prompt) for i in (*world.items, *world.sealed)]
    assert sorted(model.asked) == sorted(prompts)
    registry = world.telemetry.registry
    labels = {"service": "evaluator"}
    assert registry.get_sample_value("mendloop_items_scored_total", labels) == len(prompts)
    assert registry.get_sample_value("mendloop_tokens_total", {**labels, "use": "generate"}) == 2 * len(prompts)


def test_a_weak_slice_is_reported_with_its_evidence(world: World) -> None:
    completed, failure = (emit.message for emit in world.measured(world.ready()))

    assert (completed.accuracy.correct, completed.accuracy.n) == (270, 360)
    assert completed.weak_slice_count == failure.weak_slice_count == 1
    assert [conditions_of(score.slice) for score in completed.slices] == [(("verb", v),) for v in sorted(VERBS)]
    assert conditions_of(failure.slice) == (("verb", "jump"),)
    assert (failure.accuracy.correct, failure.accuracy.n, failure.confirmation.n) == (0, 60, 30)
    assert failure.p_value <= failure.q_value < 1e-20
    assert failure.threshold == 0.8
    assert len(failure.example_ids) == 20
    rows = {row.item_id: row for row in get_rows(world.store, artifact_of(failure.outcomes), kind=Outcome)}
    assert all(rows[name].score == 0 and rows[name].axes["verb"] == ("jump",) for name in failure.example_ids)
    assert rows.keys() == {i.item_id for i in world.items}
    assert completed.metering.token_count == 2 * (360 + 80)


def test_weak_slices_that_nobody_wants_diagnosed_are_still_in_the_result(world: World) -> None:
    (only,) = world.measured(world.ready(diagnosis_wanted=False))

    assert only.message.weak_slice_count == 0
    assert (("verb", "jump"),) in [conditions_of(score.slice) for score in only.message.slices]


def test_a_model_that_always_fails_is_weak_on_all_items(tmp_path: Path) -> None:
    world = World(tmp_path, knows=())

    _, failure = (emit.message for emit in world.measured(world.ready()))

    assert conditions_of(failure.slice) == ()


def test_only_the_shard_that_arrives_last_answers(world: World) -> None:
    first, second = world.scored(world.ready())

    assert on_shard_scored(event(second.message), ports=world.ports) == []
    assert len(on_shard_scored(event(first.message), ports=world.ports)) == 2


def test_a_duplicate_delivery_answers_with_the_same_identities(world: World) -> None:
    first, second = world.scored(world.ready())
    on_shard_scored(event(first.message), ports=world.ports)

    once = on_shard_scored(event(second.message, event_id="e2"), ports=world.ports)
    twice = on_shard_scored(event(first.message, event_id="e3"), ports=world.ports)

    assert once == twice
    assert len({emit.identity for emit in once}) == len(once)
    assert all(emit.identity.startswith(f"run-1/0/{first.message.evaluation_id}") for emit in once)


def test_two_runs_that_measure_the_same_checkpoint_share_outcomes_and_each_get_an_answer(world: World) -> None:
    world.measured(world.ready())
    world.loader.models[BASE.sha256].asked.clear()

    emits = world.measured(world.ready(position=common_pb2.RunPosition(run_id="run-2")))

    assert len(emits) == 2
    assert world.loader.models[BASE.sha256].asked == []


def test_a_finished_shard_is_not_scored_again(world: World) -> None:
    shard = on_checkpoint_ready(event(world.ready()), ports=world.ports)[0].message
    before = on_evaluation_shard(event(shard), ports=world.ports)
    loads = world.loader.loads

    after = on_evaluation_shard(event(shard), ports=world.ports)

    assert after == before
    assert world.loader.loads == loads


def test_a_killed_shard_goes_on_from_its_finished_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "BATCH_ITEMS", 50)
    shard = on_checkpoint_ready(event(world.ready()), ports=world.ports)[0].message
    model = world.loader.models[BASE.sha256]
    stops_later = event(shard)
    stops_later = type(stops_later)(shard, "e1", "", lambda: len(model.asked) >= 100)
    with pytest.raises(Interrupted):
        on_evaluation_shard(stops_later, ports=world.ports)
    first = list(model.asked)

    on_evaluation_shard(event(shard), ports=world.ports)

    assert len(first) < len(model.asked) == len(set(model.asked)) == (360 + 80) // 2


def test_a_stopping_service_gives_the_shard_back(world: World) -> None:
    shard = on_checkpoint_ready(event(world.ready()), ports=world.ports)[0].message

    with pytest.raises(Interrupted):
        on_evaluation_shard(event(shard, is_stopping=True), ports=world.ports)

    assert world.loader.models[BASE.sha256].asked == []


def test_a_suite_that_changed_under_way_is_noticed(world: World) -> None:
    shard = on_checkpoint_ready(event(world.ready()), ports=world.ports)[0].message
    shard.evaluation_id = "f" * 32

    with pytest.raises(InvalidEvent, match="suite was changed"):
        on_evaluation_shard(event(shard), ports=world.ports)


def test_lost_outcomes_are_an_error_and_no_score(world: World) -> None:
    first, second = world.scored(world.ready())
    on_shard_scored(event(first.message), ports=world.ports)
    kept = world.ports.outcomes.find(first.message.evaluation_id, "0-of-2")
    assert kept is not None
    rows = world.ports.outcomes.rows(kept)[1:]
    world.ports.outcomes.keep(first.message.evaluation_id, "0-of-2", outcomes=rows, cost=kept.cost)

    with pytest.raises(Permanent, match="359 outcomes in 2 of 2 shards for 360 items"):
        on_shard_scored(event(second.message), ports=world.ports)


def test_a_candidate_is_compared_with_its_baseline_on_the_sealed_items(world: World) -> None:
    world.measured(world.ready())

    (completed,) = (emit.message for emit in world.measured(world.candidate()))

    counts = {conditions_of(c.slice): (c.n, c.only_baseline, c.only_candidate, c.both) for c in completed.sealed}
    assert counts[()] == (80, 0, 20, 60)
    assert counts[(("verb", "jump"),)] == (20, 0, 20, 0)
    assert counts[(("verb", "walk"),)] == (20, 0, 0, 20)
    assert len(counts) == len(completed.sealed) == 5


def test_weak_conjunctions_of_the_baseline_are_compared_too(tmp_path: Path) -> None:
    world = World(tmp_path, axes=["verb", "length"])
    weak = [i for i in (*world.items, *world.sealed) if i.axes == {"verb": ("jump",), "length": ("long",)}]
    for one in weak:
        del world.loader.models[BASE.sha256].answers[world.spec.prompt(one.prompt)]
    world.measured(world.ready())

    (completed,) = (emit.message for emit in world.measured(world.candidate()))

    target = (("length", "long"), ("verb", "jump"))
    assert [c.n for c in completed.sealed if conditions_of(c.slice) == target] == [sum(i in world.sealed for i in weak)]


@pytest.mark.parametrize("kind", [checkpoint_pb2.CHECKPOINT_KIND_BASE, checkpoint_pb2.CHECKPOINT_KIND_REMEASURED])
def test_only_a_candidate_has_a_sealed_comparison(world: World, kind: checkpoint_pb2.CheckpointKind) -> None:
    world.measured(world.ready())

    emits = world.measured(world.candidate(kind=kind))

    assert not emits[0].message.sealed


def test_a_baseline_that_was_measured_elsewhere_leaves_the_comparison_empty_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (completed,) = (emit.message for emit in world.measured(world.candidate()))

    assert not completed.sealed
    (said,) = [record for record in caplog.records if record.message == "no sealed comparison"]
    assert said.__dict__["reason"] == "the baseline was not measured on this suite"


def test_nothing_of_a_sealed_item_leaves_its_store(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        emits = [*world.measured(world.ready()), *world.measured(world.candidate())]

    secrets = {text.encode() for i in world.sealed for text in (i.item_id, i.prompt)}
    stored = [path.read_bytes() for path in (tmp_path / "open").rglob("*") if path.is_file()]
    rows = [row.item_id for path in _parquet(tmp_path / "open") for row in get_rows(world.store, path, kind=Outcome)]
    sent = [emit.message.SerializeToString() for emit in emits]
    logged = json.dumps([record.__dict__ for record in caplog.records], default=str).encode()
    assert not [secret for secret in secrets for text in (*stored, *sent, logged) if secret in text]
    assert not [name for name in rows if name.encode() in secrets]
    assert len(rows) > 360  # the search looked at something


def test_a_backend_that_quotes_sealed_prompts_is_kept_quiet(world: World) -> None:
    world.loader.models[BASE.sha256] = QuotingModel({})
    shard = on_checkpoint_ready(event(world.ready()), ports=world.ports)[0].message

    with pytest.raises(Permanent) as failure:
        on_evaluation_shard(event(shard), ports=world.ports)

    assert "RuntimeError" in str(failure.value)
    assert "command" not in str(failure.value)


def test_lineage_leads_from_a_failure_to_its_checkpoint(world: World) -> None:
    _, failure = (emit.message for emit in world.measured(world.ready()))

    name = f"failure:{failure.evaluation_id}/{failure.slice.slice_id}"
    nodes = [node for _, node in lineage.ancestry(world.store, name)]
    assert [node.name for node in nodes] == [name, f"evaluation:{failure.evaluation_id}"]
    assert nodes[0].facts == {"slice": "verb=jump", "n": 90, "correct": 0}
    assert nodes[1].inputs == (f"checkpoint:{BASE.sha256}",)


def test_an_evaluation_fix_measures_the_same_checkpoint_with_the_repaired_suite(world: World) -> None:
    plan = intervention_pb2.InterventionPlanned(
        position=common_pb2.RunPosition(run_id="run-1", round=1),
        plan_id="p1",
        kind=diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX,
        fixes=fix_messages([Fix("suite.max_new_tokens", "128")]),
        checkpoint=artifact_ref(BASE),
        run_spec=artifact_ref(world.spec.store(world.store)),
        diagnosis_wanted=True,
    )
    original = on_checkpoint_ready(event(world.ready()), ports=world.ports)[0].message

    shards = [emit.message for emit in on_intervention_planned(event(plan), ports=world.ports)]

    ready = shards[0].checkpoint_ready
    assert len(shards) == 2
    assert shards[0].evaluation_id != original.evaluation_id
    assert (ready.kind, ready.plan_id) == (checkpoint_pb2.CHECKPOINT_KIND_REMEASURED, "p1")
    assert ready.checkpoint == ready.baseline == plan.checkpoint
    assert ready.position == plan.position
    repaired = RunSpec.load(world.store, artifact_of(ready.run_spec))
    assert repaired.recipe.suite.max_new_tokens == 128
    assert repaired.items == world.spec.items


@pytest.mark.parametrize("kind", [diagnosis_pb2.INTERVENTION_KIND_DATA, diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX])
def test_a_plan_for_somebody_else_is_left_alone(world: World, kind: diagnosis_pb2.InterventionKind) -> None:
    plan = intervention_pb2.InterventionPlanned(kind=kind)

    assert on_intervention_planned(event(plan), ports=world.ports) == []


def test_every_event_of_the_contract_has_a_handler(world: World) -> None:
    assert set(handlers(world.ports)) == {
        checkpoint_pb2.CheckpointReady,
        evaluation_pb2.EvaluationShard,
        evaluation_pb2.ShardScored,
        intervention_pb2.InterventionPlanned,
    }


def _parquet(root: Path) -> list[Artifact]:
    """Every stored object that holds outcomes."""
    documents = [json.loads(path.read_bytes()) for path in root.glob("docs/shards/*/*")]
    return [Artifact(**document["outcomes"]) for document in documents]
