"""What the controller does with the events of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import (
    BETTER,
    HARMFUL,
    JUMP,
    LOOK,
    RUN,
    WEAK,
    MemoryRuns,
    World,
    names,
    of,
    only,
    ref,
    sealed_counts,
)

from mendloop.artifacts.lineage import find
from mendloop.core.errors import InvalidEvent, Permanent
from mendloop.core.run_spec import RunSpec
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2

TRAINING = diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX
EVALUATION = diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX
NOTHING = diagnosis_pb2.INTERVENTION_KIND_NONE


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_weak_ends_the_run_healthy_with_its_figures(world: World) -> None:
    base = world.evaluated(world.base_ready(), {**WEAK, "jump": 96})
    finished = only(world.send(world.requested(), base), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_HEALTHY
    assert "387 of 400" in finished.summary
    assert finished.checkpoint == ref("base")
    assert finished.metering.wall_s == pytest.approx(1.8)
    assert finished.metering.token_count == 18


def test_plan_waits_for_every_diagnosis(world: World) -> None:
    base = world.evaluated(world.base_ready(), WEAK, weak=2)
    assert world.send(world.requested(), base, world.diagnosed(base)) == []
    assert names(world.send(world.diagnosed(base, LOOK, failed=2))) == ["InterventionPlanned"]


def test_data_plan_splits_the_new_examples_by_failure_mass(world: World) -> None:
    base = world.evaluated(world.base_ready(), WEAK, weak=2)
    world.send(world.requested(), base, world.diagnosed(base, failed=30))
    plan = only(world.send(world.diagnosed(base, LOOK, failed=10)), intervention_pb2.InterventionPlanned)
    shares = {item.slice.conditions[0].value: item.example_count for item in plan.items}
    assert shares == {"jump": 48, "look": 16}
    assert plan.position.round == 1
    assert plan.train_token_limit == 200 * 64 * 96
    assert not plan.diagnosis_wanted
    assert plan.checkpoint == ref("base")


def test_evaluation_fix_comes_before_training_fix_and_data(world: World) -> None:
    base = world.evaluated(world.base_ready(report=world.report()), WEAK, weak=3)
    out = world.send(
        world.requested(),
        base,
        world.diagnosed(base),
        world.diagnosed(base, LOOK, kind=TRAINING, fixes={"train.eos_in_loss": "true"}),
        world.diagnosed(base, (("verb", "run"),), kind=EVALUATION, fixes={"suite.max_new_tokens": "128"}),
    )
    plan = only(out, intervention_pb2.InterventionPlanned)
    assert plan.kind == EVALUATION
    assert [(fix.setting, fix.value_json) for fix in plan.fixes] == [("suite.max_new_tokens", "128")]
    assert not plan.items


def test_training_fix_takes_all_failing_slices_and_the_repaired_token_bound(world: World) -> None:
    base = world.evaluated(world.base_ready(report=world.report()), WEAK, weak=2)
    fixes = {"train.eos_in_loss": "true", "train.steps": "20"}
    world.send(world.requested(), base, world.diagnosed(base, LOOK))
    out = world.send(world.diagnosed(base, kind=TRAINING, fixes=fixes))
    plan = only(out, intervention_pb2.InterventionPlanned)
    assert plan.kind == TRAINING
    assert plan.train_token_limit == 20 * 8 * 16
    assert plan.training_report == base.checkpoint_ready.training_report
    assert set(world.state().plans[0].targets) == {JUMP, LOOK}


def test_training_fix_of_a_checkpoint_that_was_not_trained_here_abstains(world: World) -> None:
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    out = world.send(world.requested(), base, world.diagnosed(base, kind=TRAINING, fixes={"train.eos_in_loss": "true"}))
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "was not trained here" in finished.summary


def test_unknown_fix_is_refused_for_good(world: World) -> None:
    base = world.evaluated(world.base_ready(report=world.report()), WEAK, weak=1)
    world.send(world.requested(), base)
    with pytest.raises(Permanent, match="names no setting"):
        world.send(world.diagnosed(base, kind=TRAINING, fixes={"train.magic": "1"}))


def test_abstaining_verdicts_end_the_run_with_their_causes(world: World) -> None:
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    out = world.send(world.requested(), base, world.diagnosed(base, kind=NOTHING, cause=diagnosis_pb2.CAUSE_UNKNOWN))
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "unknown" in finished.summary


def test_good_candidate_is_promoted_with_every_gate_and_the_run_ends_with_figures(world: World) -> None:
    plan = world.until_plan()
    candidate = world.candidate_ready(plan)
    out = world.send(
        world.batched(plan, count=60), candidate, world.evaluated(candidate, BETTER, sealed=sealed_counts())
    )
    promoted = only(out, checkpoint_pb2.CheckpointPromoted)
    finished = only(out, loop_pb2.LoopFinished)
    assert promoted.replaced == ref("base")
    assert promoted.checkpoint == finished.checkpoint == candidate.checkpoint
    assert {gate.gate for gate in promoted.gates} == {
        "target_improves",
        "protected_non_inferior",
        "protected_undecidable",
        "sealed_agrees",
        "sealed_non_inferior",
    }
    target = next(gate for gate in promoted.gates if gate.gate == "target_improves")
    assert (target.n, target.before, target.after) == (100, 0.02, 0.8)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    assert "verb=jump 2.0% → 80.0%" in finished.summary
    assert "new_examples used 60 of 64 reserved" in finished.summary


def test_candidate_that_breaks_a_protected_slice_is_rejected_and_rolled_back(world: World) -> None:
    plan = world.until_plan()
    candidate = world.candidate_ready(plan)
    out = world.send(world.batched(plan), world.evaluated(candidate, HARMFUL, sealed=sealed_counts()))
    rejected = only(out, checkpoint_pb2.CheckpointRejected)
    finished = only(out, loop_pb2.LoopFinished)
    assert rejected.rolled_back_to == ref("base") == finished.checkpoint
    assert "verb=walk 97.0% → 60.0%" in rejected.reason
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_REJECTED


def test_candidate_without_sealed_counts_is_rejected_where_the_recipe_has_sealed_items(world: World) -> None:
    plan = world.until_plan()
    out = world.send(world.batched(plan), world.evaluated(world.candidate_ready(plan), BETTER))
    assert "no counts" in only(out, checkpoint_pb2.CheckpointRejected).reason


def test_recipe_without_sealed_items_says_that_the_gate_is_not_applied(tmp_path: Path) -> None:
    world = World(tmp_path, suite={"axes": ["verb"], "sealed": 0})
    plan = world.until_plan()
    out = world.send(world.batched(plan), world.evaluated(world.candidate_ready(plan), BETTER))
    gates = {gate.gate: gate for gate in only(out, checkpoint_pb2.CheckpointPromoted).gates}
    assert "not applied" in gates["sealed_agrees"].requirement


def test_candidate_is_not_judged_before_its_batch_is_metered(world: World) -> None:
    plan = world.until_plan()
    assert world.send(world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts())) == []
    assert "CheckpointPromoted" in names(world.send(world.batched(plan)))


def test_empty_batch_ends_the_run_and_settles_the_budget(world: World) -> None:
    plan = world.until_plan()
    finished = only(world.send(world.batched(plan, count=0)), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "decontamination: 3 evaluation item" in finished.summary
    assert all(row.is_settled for row in world.state().reservations)
    assert {row.resource: row.used for row in world.state().reservations}["new_examples"] == 0


def test_the_operation_of_a_diagnosis_is_that_of_the_plan(world: World) -> None:
    base = world.evaluated(world.base_ready(report=world.report()), WEAK, weak=1)
    diagnosis = world.diagnosed(base)
    diagnosis.operation = "jump"
    plan = only(world.send(world.requested(), base, diagnosis), intervention_pb2.InterventionPlanned)
    assert [item.operation for item in plan.items] == ["jump"]


def test_empty_batch_of_a_dead_teacher_ends_the_run_with_its_address_and_settles_the_budget(world: World) -> None:
    plan = world.until_plan()
    batch = world.batched(plan, count=0)
    del batch.drops[:]
    batch.drops.add(stage="source", reason="teacher:t: the teacher at http://a/v1 does not answer")
    finished = only(world.send(batch), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "source: teacher:t: the teacher at http://a/v1 does not answer" in finished.summary
    assert all(row.is_settled for row in world.state().reservations)


def test_training_that_does_not_fit_the_token_budget_exceeds_it_before_any_plan(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"train_tokens": 1000})
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    out = world.send(world.requested(), base, world.diagnosed(base))
    exceeded = only(out, loop_pb2.BudgetExceeded)
    assert names(out) == ["BudgetExceeded", "LoopFinished"]
    assert (exceeded.resource, exceeded.limit, exceeded.requested) == ("train_tokens", 1000, 200 * 64 * 96)
    assert only(out, loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_BUDGET_EXCEEDED


def test_wall_clock_that_is_spent_exceeds_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"wall_s": 60})
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    world.send(world.requested(), base)
    world.now += 61
    exceeded = only(world.send(world.diagnosed(base)), loop_pb2.BudgetExceeded)
    assert (exceeded.resource, exceeded.used) == ("wall_s", 61)


def test_gpu_seconds_that_the_base_used_up_exceed_the_budget_with_all_figures(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"gpu_s": 10})
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    base.metering.gpu_s = 6
    exceeded = only(world.send(world.requested(), base, world.diagnosed(base)), loop_pb2.BudgetExceeded)
    assert (exceeded.resource, exceeded.limit, exceeded.used, exceeded.requested) == ("gpu_s", 10, 6, 6)


def test_plan_carries_its_limits_and_is_settled_with_what_was_metered(tmp_path: Path) -> None:
    prices = {"gpu_hour": 3600, "teacher_mtokens": 0.0}
    world = World(tmp_path, budget={"gpu_s": 100, "teacher_tokens": 5000, "money": 80, "prices": prices})
    plan = world.until_plan()
    assert (plan.gpu_s_limit, plan.teacher_token_limit) == (80, 5000)
    batch, ready = world.batched(plan), world.candidate_ready(plan)
    batch.metering.token_count, ready.metering.gpu_s = 700, 12
    world.send(batch, world.evaluated(ready, BETTER, sealed=sealed_counts()))
    used = {row.resource: row.used for row in world.state().reservations}
    assert (used["gpu_s"], used["teacher_tokens"], used["money"]) == (12, 700, 12)


def test_plan_that_needs_approval_waits_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path, approval=True)
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    question = only(world.send(world.requested(), base, world.diagnosed(base)), loop_pb2.ApprovalRequested)
    assert "64 new_examples" in question.summary
    out = world.send(loop_pb2.ApprovalGiven(position=question.position, plan_id=question.plan_id, approved=True))
    assert only(out, intervention_pb2.InterventionPlanned).plan_id == question.plan_id


def test_refused_plan_ends_the_run_with_who_and_why_and_releases_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path, approval=True)
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    question = only(world.send(world.requested(), base, world.diagnosed(base)), loop_pb2.ApprovalRequested)
    answer = loop_pb2.ApprovalGiven(
        position=question.position, plan_id=question.plan_id, approved=False, approved_by="Ada", reason="too dear"
    )
    finished = only(world.send(answer), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "Ada refused the plan of round 1: too dear" in finished.summary
    assert all(row.is_settled and not row.used for row in world.state().reservations)


def test_cancelled_run_ends_once_and_ignores_what_comes_later(world: World) -> None:
    plan = world.until_plan()
    cancel = loop_pb2.LoopCancelled(position=world.position(), reason="wrong recipe", cancelled_by="Ada")
    finished = only(world.send(cancel), loop_pb2.LoopFinished)
    late = world.send(world.batched(plan), world.evaluated(world.candidate_ready(plan), BETTER))
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_CANCELLED
    assert "Ada: wrong recipe" in finished.summary
    assert late == []


def test_dead_letter_of_a_service_fails_the_run_with_its_reason(world: World) -> None:
    plan = world.until_plan()
    finished = only(world.send(world.dead(world.batched(plan))), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_FAILED
    assert "trainer gave up on DataBatchReady after 1 tries: Permanent: it broke" in finished.summary


def test_a_failed_training_ends_the_run_with_its_cause_and_settles_what_it_cost(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan))
    failed = checkpoint_pb2.TrainingFailed(
        position=plan.position,
        plan_id=plan.plan_id,
        cause=checkpoint_pb2.TRAINING_FAILURE_CAUSE_DIVERGED,
        reason="mean loss 50 at step 4",
        evidence=ref("evidence"),
        metering=common_pb2.Metering(wall_s=2, token_count=77),
    )

    finished = only(world.send(failed), loop_pb2.LoopFinished)

    assert finished.outcome == loop_pb2.LOOP_OUTCOME_FAILED
    assert "the training failed (diverged): mean loss 50 at step 4; evidence" in finished.summary
    rows = [row for row in world.state().reservations if row.plan_id == plan.plan_id]
    assert all(row.is_settled for row in rows)
    assert {row.resource: row.used for row in rows}["train_tokens"] == 77


def test_dead_letter_about_the_request_itself_fails_the_run_without_its_specification(world: World) -> None:
    request = loop_pb2.LoopRequested(position=world.position(), run_spec=ref("gone"))
    finished = only(world.send(world.dead(request, handler="controller")), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_FAILED
    assert not finished.checkpoint.sha256


@pytest.mark.parametrize(("handler", "value"), [("trainer", b"\xff\xff"), ("gateway", None), ("somebody-else", None)])
def test_dead_letter_that_no_run_waits_for_ends_none(world: World, handler: str, value: bytes | None) -> None:
    plan = world.until_plan()
    assert world.send(world.dead(world.batched(plan), handler=handler, value=value)) == []
    assert world.state().is_open


def test_cancellation_before_the_request_is_kept_for_it(world: World) -> None:
    assert world.send(loop_pb2.LoopCancelled(position=world.position())) == []
    assert only(world.send(world.requested()), loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_CANCELLED


def test_event_without_a_run_is_invalid(world: World) -> None:
    with pytest.raises(InvalidEvent, match="no run id"):
        world.send(evaluation_pb2.EvalCompleted(checkpoint_ready=world.base_ready()))


def test_redelivered_event_gives_the_same_outputs_and_counts_nothing_twice(world: World) -> None:
    plan = world.until_plan()
    out = world.send(world.batched(plan), world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts()))
    state = world.state()
    counted = _metric(world, "mendloop_runs_finished_total", outcome="promoted")
    assert world.deliver(world.sent[-1]) == out
    assert world.state() == state
    assert _metric(world, "mendloop_runs_finished_total", outcome="promoted") == counted == 1
    assert _metric(world, "mendloop_gates_total", gate="target_improves", result="passed") == 1


def test_rejected_for_forgetting_plans_again_from_the_baseline_with_more_replay(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2)
    plan = world.until_plan()
    assert [item.example_count for item in plan.items] == [32]
    harmful = world.evaluated(world.candidate_ready(plan), HARMFUL, sealed=sealed_counts())
    out = world.send(world.batched(plan, count=32), harmful)
    again = only(out, intervention_pb2.InterventionPlanned)
    assert names(out) == ["CheckpointRejected", "InterventionPlanned"]
    assert again.replay_share == pytest.approx(0.8)
    assert again.checkpoint == ref("base")
    assert (again.position.round, again.diagnosis_wanted) == (2, False)
    assert [item.example_count for item in again.items] == [32]


def test_rejected_because_the_target_did_not_improve_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=3)
    plan = world.until_plan()
    out = world.send(world.batched(plan), world.evaluated(world.candidate_ready(plan), WEAK, sealed=sealed_counts()))
    assert names(out) == ["CheckpointRejected", "LoopFinished"]


def test_second_round_starts_from_the_promoted_candidate_and_its_weak_slices(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2)
    plan = world.until_plan()
    candidate = world.candidate_ready(plan)
    measured = world.evaluated(candidate, {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    assert names(world.send(world.batched(plan, count=32), measured)) == ["CheckpointPromoted"]
    second = only(world.send(world.diagnosed(measured, failed=40)), intervention_pb2.InterventionPlanned)
    assert second.checkpoint == candidate.checkpoint
    assert second.position.round == 2
    worse = world.evaluated(world.candidate_ready(second), HARMFUL, sealed=sealed_counts())
    finished = only(world.send(world.batched(second, count=32), worse), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    assert finished.checkpoint == candidate.checkpoint


def test_second_round_says_what_its_examples_are_expected_to_bring(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2, allocation={"strategy": "expected_gain"})
    plan = world.until_plan()
    assert "split by failed items" in plan.rationale
    measured = world.evaluated(world.candidate_ready(plan), {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    world.send(world.batched(plan, count=32), measured)
    second = only(world.send(world.diagnosed(measured, failed=40)), intervention_pb2.InterventionPlanned)
    # 98 failures became 40 with 32 examples: 40 will become about 16 with 32 more
    assert "split by expected gain" in second.rationale
    assert "expected to put right 23.7 ±" in second.rationale


def test_round_that_promises_less_than_the_floor_is_not_planned(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2, allocation={"floor": 30})
    plan = world.until_plan()
    candidate = world.candidate_ready(plan)
    measured = world.evaluated(candidate, {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    world.send(world.batched(plan, count=32), measured)
    finished = only(world.send(world.diagnosed(measured, failed=40)), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    assert finished.checkpoint == candidate.checkpoint
    assert "below the floor of 30" in finished.summary


def test_evaluation_fix_that_helps_ends_with_the_score_repaired_and_no_checkpoint_changed(world: World) -> None:
    plan = world.until_plan(kind=EVALUATION, fixes={"suite.max_new_tokens": "128"})
    out = world.send(world.evaluated(world.remeasured_ready(plan), BETTER))
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_EVALUATION_FIXED
    assert finished.checkpoint == ref("base")
    assert not of(out, checkpoint_pb2.CheckpointPromoted)


def test_evaluation_fix_that_does_not_help_ends_rejected(world: World) -> None:
    plan = world.until_plan(kind=EVALUATION, fixes={"suite.max_new_tokens": "128"})
    finished = only(world.send(world.evaluated(world.remeasured_ready(plan), WEAK)), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_REJECTED


def test_round_after_an_evaluation_fix_uses_its_specification_and_the_old_training_report(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2)
    plan = world.until_plan(kind=EVALUATION, fixes={"suite.max_new_tokens": "128"})
    spec = RunSpec.load(world.store, artifact_of(plan.run_spec))
    patched = spec.recipe.model_copy(update={"suite": spec.recipe.suite.model_copy(update={"max_new_tokens": 128})})
    repaired = artifact_ref(RunSpec(patched, *list(spec._artifacts().values())).store(world.store))
    measured = world.evaluated(world.remeasured_ready(plan, run_spec=repaired), {**BETTER, "jump": 60}, weak=1)
    out = world.send(measured, world.diagnosed(measured, kind=TRAINING, fixes={"train.eos_in_loss": "true"}))
    second = only(out, intervention_pb2.InterventionPlanned)
    assert second.run_spec == repaired
    assert second.training_report == world.base_ready(report=world.report()).training_report
    assert second.checkpoint == ref("base")


def test_sealed_items_count_their_queries_over_rounds_and_runs_and_stop_at_their_budget(tmp_path: Path) -> None:
    runs = MemoryRuns()
    told = []
    for run_id in ("tiny-1", "tiny-2", "tiny-3"):
        world = World(tmp_path, runs=runs, run_id=run_id, gates={"sealed_queries": 2})
        plan = world.until_plan()
        out = world.send(
            world.batched(plan), world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts())
        )
        decided = of(out, checkpoint_pb2.CheckpointPromoted) + of(out, checkpoint_pb2.CheckpointRejected)
        told += [(gate.passed, gate.requirement) for gate in decided[0].gates if gate.gate == "sealed_agrees"]
    assert [passed for passed, _ in told] == [True, True, False]
    assert [words.count("1 left") + words.count("0 left") for _, words in told] == [1, 1, 0]
    assert "draw new sealed items" in told[2][1]


def test_plan_and_gate_are_in_the_lineage(world: World) -> None:
    plan = world.until_plan()
    candidate = world.candidate_ready(plan)
    world.send(world.batched(plan), world.evaluated(candidate, BETTER, sealed=sealed_counts()))
    planned = find(world.store, f"plan:{plan.plan_id}")
    gate = find(world.store, f"gate:{candidate.checkpoint.sha256}")
    assert planned is not None
    assert planned.inputs[0].startswith("diagnosis:")
    assert planned.run_id == RUN
    assert gate is not None
    assert gate.facts["decision"] == "promoted"
    assert gate.inputs[0] == f"checkpoint:{candidate.checkpoint.sha256}"


def _metric(world: World, name: str, **labels: str) -> float | None:
    return world.telemetry.registry.get_sample_value(name, {"service": "controller", **labels})
