from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders import event, example, recipe
from generator_world import BIG, SMALL, HangingSource, ListedSource, Stage, Sums, drops, sum_of

from mendloop.artifacts.lineage import find
from mendloop.bus.runtime import Event
from mendloop.core.errors import CorruptArtifact, Interrupted
from mendloop.core.records import Example, fingerprint
from mendloop.core.tasks import Conditions, matches
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.data_generator.adapters.patience import PatientSource
from mendloop.data_generator.handlers import handlers, on_intervention_planned
from mendloop.v1 import diagnosis_pb2, intervention_pb2


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "artifacts")


def test_a_plan_becomes_a_batch_of_verified_new_examples_of_its_slices(stage: Stage) -> None:
    plan = stage.plan((BIG, 8), (SMALL, 5))

    ready = stage.answer(plan)

    rows = stage.rows(ready)
    assert ready.example_count == len(rows) == 13
    assert [sum(matches(row.axes, slice_) for row in rows) for slice_ in (BIG, SMALL)] == [8, 5]
    assert all(Sums().verify(row.prompt, row.completion) for row in rows)
    assert len({row.prompt for row in rows} - {row.prompt for row in Sums().corpus({})}) == 13
    assert {row.source for row in rows} == {"teacher:sums"}
    assert ready.plan == plan
    assert ready.position == plan.position
    assert ready.metering.wall_s == 1.5
    assert (ready.metering.gpu_s, ready.metering.token_count) == (0, 0)


@pytest.mark.parametrize(
    "kind",
    [
        diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX,
        diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX,
        diagnosis_pb2.INTERVENTION_KIND_NONE,
        diagnosis_pb2.INTERVENTION_KIND_UNSPECIFIED,
    ],
)
def test_other_kinds_of_plans_are_not_answered(stage: Stage, kind: diagnosis_pb2.InterventionKind.ValueType) -> None:
    assert on_intervention_planned(event(stage.plan((BIG, 8), kind=kind)), ports=stage.ports()) == []


def test_the_service_reads_plans_only(stage: Stage) -> None:
    bound = handlers(stage.ports())

    [handler] = bound.values()
    assert list(bound) == [intervention_pb2.InterventionPlanned]
    assert len(list(handler(event(stage.plan((SMALL, 1)))))) == 1


def test_the_same_plan_twice_is_the_same_batch(stage: Stage) -> None:
    plan = stage.plan((BIG, 8))

    assert stage.answer(plan).batch == stage.answer(plan).batch


def test_a_plan_repeated_under_another_id_gets_the_same_data(stage: Stage) -> None:
    first, second = stage.plan((BIG, 8)), stage.plan((BIG, 8), plan_id="p2")

    assert stage.answer(first).batch == stage.answer(second).batch


def test_another_round_gets_other_data(stage: Stage) -> None:
    first, second = stage.plan((BIG, 8)), stage.plan((BIG, 8))
    second.position.round = 2

    assert stage.answer(first).batch.sha256 != stage.answer(second).batch.sha256


def test_the_pool_is_used_up_before_the_teacher_is_asked(stage: Stage) -> None:
    stage.spec_parts = {"pool": [sum_of(300 + number, 1, source="web") for number in range(3)]}

    rows = stage.rows(stage.answer(stage.plan((BIG, 5))))

    assert [row.source for row in rows] == ["pool"] * 3 + ["teacher:sums"] * 2


def test_the_teacher_is_not_asked_where_the_pool_is_enough(stage: Stage) -> None:
    def never(conditions: Conditions, seed: int) -> Iterator[Example]:
        raise AssertionError("asked for nothing")
        yield

    stage.task = Sums(lesson=never)
    stage.spec_parts = {"pool": [sum_of(300 + number, 1) for number in range(9)]}

    ready = stage.answer(stage.plan((BIG, 5)))

    assert ready.example_count == 5
    assert sum(drops(ready, "selection").values()) == 4


def test_overlapping_slices_share_no_example(stage: Stage) -> None:
    stage.sources = [ListedSource([sum_of(200, number) for number in range(6)])]

    ready = stage.answer(stage.plan((BIG, 4), ((), 4)))

    rows = stage.rows(ready)
    assert len({row.prompt for row in rows}) == len(rows) == 6
    assert drops(ready, "budget") == {"all items: 2 of 4 ordered examples were found": 0}


def test_no_evaluation_item_reaches_the_batch(stage: Stage) -> None:
    every = [sum_of(200, number) for number in range(10)]
    stage.sources = [ListedSource(every)]
    stage.spec_parts = {"fingerprints": [fingerprint(row.prompt.upper()) for row in every[:7]]}

    ready = stage.answer(stage.plan((BIG, 10)))

    assert {row.prompt for row in stage.rows(ready)} == {row.prompt for row in every[7:]}
    assert drops(ready, "decontamination") == {"its prompt is an evaluation item": 7}


def test_every_drop_is_in_the_event_the_metrics_and_the_lineage(stage: Stage) -> None:
    stage.sources = [
        ListedSource(
            [
                example("add 200 1", completion="0"),
                example("sub 3 4", completion="7"),
                sum_of(1, 1),
                *[sum_of(200, number) for number in (1, 1, 2, 3)],
            ]
        )
    ]

    ready = stage.answer(stage.plan((BIG, 2)))

    stages = {row.stage for row in ready.drops if row.count}
    counts = {name: sum(drops(ready, name).values()) for name in stages}
    assert counts == {"verification": 1, "duplicate": 2, "slice": 1, "selection": 1}
    for name, count in counts.items():
        labels = {"service": "data-generator", "stage": name}
        assert stage.telemetry.registry.get_sample_value("mendloop_examples_dropped_total", labels) == count
    kept = stage.telemetry.registry.get_sample_value("mendloop_examples_kept_total", {"service": "data-generator"})
    assert kept == 2
    node = find(stage.store, f"batch:{ready.batch.sha256}")
    assert node is not None
    assert node.inputs == ("plan:p1",)
    assert node.run_id == "r1"
    assert node.facts["drops"] == [
        {"stage": row.stage, "reason": row.reason, "count": row.count} for row in ready.drops
    ]


def test_the_manifest_holds_counts_sources_and_the_audit(stage: Stage) -> None:
    ready = stage.answer(stage.plan((BIG, 5)))

    facts = json.loads(stage.store.get(artifact_of(ready.manifest)))["facts"]

    assert (facts["examples"], facts["ordered"]) == (5, 5)
    assert facts["sources"] == {"teacher:sums": 5}
    [slice_] = facts["slices"]
    assert (slice_["slice"], slice_["ordered"], slice_["found"]) == ("size=big", 5, 5)
    size = facts["audit"]["axes"]["size"]
    assert size["values"]["big"] == {"before": 0.0, "after": 5 / 30, "batch": 5}
    assert size["values"]["small"] == {"before": 1.0, "after": 25 / 30, "batch": 0}
    assert size["largest_shift"] == pytest.approx(5 / 30)


@pytest.mark.parametrize(
    ("lesson", "reason"),
    [
        ([], "ended after 0 candidates, 0 passed"),
        ([sum_of(0, 0)] * 500, "cut off after 300 candidates in a row of which none passed (300 looked at)"),
        ([example("???", completion="!")] * 500, "cut off after 300 candidates in a row of which none passed"),
    ],
    ids=["nothing", "only duplicates", "only garbage"],
)
def test_a_useless_teacher_ends_in_an_empty_batch_that_says_why(
    stage: Stage, lesson: list[Example], reason: str
) -> None:
    stage.task = Sums(lesson=lambda conditions, seed: iter(lesson))

    ready = stage.answer(stage.plan((BIG, 5)))

    assert ready.example_count == 0
    assert stage.rows(ready) == []
    assert any(reason in line for line in drops(ready, "source"))
    assert drops(ready, "budget") == {"size=big: 0 of 5 ordered examples were found": 0}
    assert find(stage.store, f"batch:{ready.batch.sha256}") is not None


def test_a_teacher_that_never_ends_and_never_fits_is_cut_off(stage: Stage) -> None:
    def forever(conditions: Conditions, seed: int) -> Iterator[Example]:
        number = 5
        while True:
            number += 1
            yield sum_of(number % 100, number % 97)

    stage.task = Sums(lesson=forever)

    ready = stage.answer(stage.plan((BIG, 5)))

    assert ready.example_count == 0
    assert sum(row.count for row in ready.drops) == 300


def test_a_teacher_that_hangs_ends_the_slice_with_what_it_gave(stage: Stage) -> None:
    hanging = HangingSource(first=[sum_of(200, 1), sum_of(200, 2)])
    stage.sources = [PatientSource(hanging, stall_s=0.1)]

    ready = stage.answer(stage.plan((BIG, 5)))
    hanging.released.set()

    assert ready.example_count == 2
    assert list(drops(ready, "source")) == [
        "size=big: hanging: gave up after 2 candidates: hanging gave no candidate for 0.1 s"
    ]


def test_where_no_program_can_verify_nothing_is_kept(stage: Stage) -> None:
    stage.task = Sums(has_verifier=False)

    ready = stage.answer(stage.plan((BIG, 5)))

    assert ready.example_count == 0
    [reason] = drops(ready, "verification")
    assert reason.startswith("no program can verify answers of this task")


def test_a_service_that_stops_gives_the_plan_back_before_it_starts(stage: Stage) -> None:
    with pytest.raises(Interrupted):
        stage.answer(event(stage.plan((BIG, 5)), is_stopping=True))


def test_a_service_that_stops_amid_a_plan_gives_it_back(stage: Stage) -> None:
    asked = iter(range(10**9))

    with pytest.raises(Interrupted, match="400 candidates of teacher:sums"):
        stage.answer(Event(stage.plan((BIG, 500)), "e1", "", lambda: next(asked) == 2))
    assert stage.answer(stage.plan((BIG, 500))).example_count == 500


def test_fingerprints_of_an_unknown_algorithm_are_refused(stage: Stage) -> None:
    plan = stage.plan((BIG, 5))
    other = stage.store.put(b'{"algorithm": "md5", "fingerprints": []}', media_type="application/json")
    plan.run_spec.CopyFrom(artifact_ref(replace(stage.spec(), fingerprints=other).store(stage.store)))

    with pytest.raises(CorruptArtifact, match="no sha256 fingerprints"):
        stage.answer(plan)


def test_an_order_of_nothing_asks_no_source(stage: Stage) -> None:
    ready = stage.answer(stage.plan((BIG, 0)))

    assert (ready.example_count, list(ready.drops)) == (0, [])


def test_a_batch_waits_for_people_where_the_recipe_says_so_unless_it_is_empty(stage: Stage) -> None:
    assert not stage.answer(stage.plan((BIG, 2))).awaits_review

    stage.spec_parts = {"recipe": recipe(task="sums", review=True)}

    assert stage.answer(stage.plan((BIG, 2))).awaits_review
    assert not stage.answer(stage.plan((BIG, 0))).awaits_review
