"""Control arms of a data round: planned at the main arm's budget, compared with it, never promoted, never fatal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from controller_world import BETTER, JUMP, WEAK, World, names, of, only, ref, sealed_counts

from mendloop.controller.domain.arms import orders_of
from mendloop.controller.domain.budget import spent
from mendloop.controller.domain.controls import ArmState
from mendloop.controller.domain.records import PlanState
from mendloop.core.arms import Arm
from mendloop.core.wire import conditions_of
from mendloop.v1 import arms_pb2, checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2

ARMS = ["random", "directly-sampled", {"oracle": {"verb": "jump"}}]
Planned = intervention_pb2.InterventionPlanned


def arms_of(folder: Path, **changes: Any) -> tuple[World, Planned, list[Planned]]:
    """A world whose main arm has its batch of 60 examples, its plan, and the controls' plans."""
    world = World(folder, **{"arms": ARMS, **changes})
    plan = world.until_plan()
    return world, plan, of(world.send(world.batched(plan, count=60)), Planned)


def measured(world: World, plan: Planned, correct: dict[str, int], *, count: int = 60) -> evaluation_pb2.EvalCompleted:
    """The rest of an arm: its batch is sent, its evaluation returned."""
    world.send(world.batched(plan, count=count))
    return world.evaluated(world.candidate_ready(plan), correct, sealed=[] if plan.position.arm else sealed_counts())


def decide(world: World, plan: Planned) -> list[Any]:
    return world.send(world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts()))


def test_controls_are_planned_once_the_main_batch_is_known_with_all_but_the_examples_the_same(tmp_path: Path) -> None:
    _, plan, controls = arms_of(tmp_path)

    assert [c.position.arm for c in controls] == ["random", "directly-sampled", "oracle"]
    assert [sum(item.example_count for item in c.items) for c in controls] == [60, 60, 60]
    assert [[conditions_of(item.slice) for item in c.items] for c in controls] == [[()], [()], [JUMP]]
    for control in controls:
        assert not control.diagnosis_wanted
        assert (control.checkpoint, control.run_spec) == (plan.checkpoint, plan.run_spec)
        assert (control.replay_share, control.train_token_limit) == (plan.replay_share, plan.train_token_limit)
    assert len({plan.plan_id, *(c.plan_id for c in controls)}) == 4


def test_plan_of_the_main_arm_knows_nothing_of_its_controls(tmp_path: Path) -> None:
    plain, told = World(tmp_path / "a").until_plan(), World(tmp_path / "b", arms=ARMS).until_plan()

    for plan in (plain, told):
        plan.ClearField("run_spec")
        plan.ClearField("training_report")
        plan.ClearField("plan_id")
    assert plain == told


def test_recipe_without_arms_plans_none(tmp_path: Path) -> None:
    world, _, controls = arms_of(tmp_path, arms=[])
    assert controls == []
    assert world.state().arms == ()


def test_main_arm_is_decided_before_its_controls_and_the_run_ends_after_them(tmp_path: Path) -> None:
    world, plan, controls = arms_of(tmp_path)

    assert names(decide(world, plan)) == ["CheckpointPromoted"]
    for control in controls[:2]:
        assert names(world.send(measured(world, control, WEAK))) == ["ArmCompared"]
    out = world.send(measured(world, controls[2], BETTER))

    assert names(out) == ["ArmCompared", "LoopFinished"]
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    assert finished.checkpoint == ref(f"candidate-{plan.plan_id}")
    assert "against random: verb=jump 80.0% with ours, 2.0% with the control" in finished.summary
    assert finished.metering.token_count == 7 + 11 + 13 + 4 * (900 + 11)


def test_comparison_is_paired_on_the_same_items_with_interval_and_exact_p(tmp_path: Path) -> None:
    world, plan, (control, *_) = arms_of(tmp_path)
    decide(world, plan)

    compared = only(world.send(measured(world, control, {**WEAK, "jump": 70}, count=58)), arms_pb2.ArmCompared)

    whole, target = compared.differences
    assert (list(whole.slice.conditions), whole.n, whole.only_main, whole.only_control) == ([], 400, 10, 0)
    assert (conditions_of(target.slice), target.n) == (JUMP, 100)
    assert (target.only_main, target.only_control, target.both) == (10, 0, 70)
    assert target.p_value == pytest.approx(2 * 0.5**10)
    assert 0 < target.low < 0.1 < target.high < 0.2
    assert compared.result == arms_pb2.ARM_RESULT_COMPARED
    assert compared.checkpoint == ref(f"candidate-{control.plan_id}")
    assert compared.main_checkpoint == ref(f"candidate-{plan.plan_id}")
    assert (compared.example_count, compared.main_example_count) == (58, 60)
    assert (compared.train_token_count, compared.main_train_token_count) == (900, 900)
    assert compared.metering.token_count == 900 + 11


def test_comparison_is_stored_beside_the_rounds_decision(tmp_path: Path) -> None:
    world, plan, (control, *_) = arms_of(tmp_path, arms=["random"])
    decide(world, plan)
    world.send(measured(world, control, WEAK))

    state = world.state()
    (arm,) = state.arms
    assert (arm.round, arm.arm, arm.state, arm.plan_id) == (1, "random", ArmState.COMPARED, control.plan_id)
    assert [(row.conditions, row.only_main, row.only_control) for row in state.differences] == [
        ((), 78, 0),
        (JUMP, 78, 0),
    ]
    assert [(p.arm, p.state) for p in state.plans] == [("", PlanState.PROMOTED), ("random", PlanState.SETTLED)]
    assert [r.arm for r in state.rounds] == [""]
    assert [q.arm for q in state.queries] == [""]


def test_better_control_is_not_promoted(tmp_path: Path) -> None:
    world, plan, (control, *_) = arms_of(tmp_path, arms=["random"])
    world.send(world.evaluated(world.candidate_ready(plan), WEAK, sealed=sealed_counts()))

    out = world.send(measured(world, control, BETTER))

    assert names(out) == ["ArmCompared", "LoopFinished"]
    finished = only(out, loop_pb2.LoopFinished)
    assert (finished.outcome, finished.checkpoint) == (loop_pb2.LOOP_OUTCOME_REJECTED, ref("base"))
    assert of(world.emitted, checkpoint_pb2.CheckpointPromoted) == []


def test_diverged_control_settles_and_fails_alone(tmp_path: Path) -> None:
    world, plan, (control, *_) = arms_of(tmp_path, arms=["random"])
    decide(world, plan)
    assert world.send(world.diverged(control)) == []  # its batch is still to come, and must be settled

    out = world.send(world.batched(control, count=60))

    failed = only(out, arms_pb2.ArmCompared)
    assert failed.result == arms_pb2.ARM_RESULT_FAILED
    assert "the training failed (diverged): the loss grew to 9.1" in failed.reason
    assert only(out, loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    used = {row.resource: row.used for row in world.state().reservations if row.plan_id == control.plan_id}
    assert (used["train_tokens"], used["control_examples"]) == (70, 60)


def test_control_without_an_example_trains_nothing_and_says_why(tmp_path: Path) -> None:
    world, plan, (control, *_) = arms_of(tmp_path, arms=["random"])
    decide(world, plan)

    out = world.send(world.batched(control, count=0))

    assert "no new example passed the funnel (decontamination: 3" in only(out, arms_pb2.ArmCompared).reason
    assert only(out, loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_PROMOTED


@pytest.mark.parametrize("handler", ["data-generator", "trainer", "evaluator"])
def test_service_that_gives_up_on_a_control_ends_the_arm_and_not_the_run(tmp_path: Path, handler: str) -> None:
    world, plan, (control, *_) = arms_of(tmp_path, arms=["random"])
    lost = {"data-generator": control, "trainer": world.batched(control), "evaluator": world.candidate_ready(control)}
    if handler != "data-generator":
        world.send(world.batched(control))
    if handler == "evaluator":
        world.send(lost[handler])

    out = world.send(world.dead(lost[handler], handler=handler))

    assert names(out) == ["ArmCompared"]
    assert f"{handler} gave up on" in only(out, arms_pb2.ArmCompared).reason
    assert names(decide(world, plan)) == ["CheckpointPromoted", "LoopFinished"]


def test_controls_whose_items_differ_from_the_main_arms_fail_alone(tmp_path: Path) -> None:
    world, plan, (control, *_) = arms_of(tmp_path, arms=["random"])
    decide(world, plan)
    evaluation = measured(world, control, WEAK)
    world.outcomes.tables[evaluation.outcomes.sha256].pop()

    out = world.send(evaluation)

    assert "its outcomes cannot be compared: 1 item(s)" in only(out, arms_pb2.ArmCompared).reason
    assert only(out, loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_PROMOTED


def test_arm_that_the_budget_does_not_hold_is_left_out_with_the_reason(tmp_path: Path) -> None:
    bound = 10 * 8 * 16
    fix = {"steps": 10, "batch_size": 8, "max_tokens": 16}
    world, plan, controls = arms_of(tmp_path, fix=fix, budget={"train_tokens": 2 * bound + 1, "new_examples": 60})

    assert [c.position.arm for c in controls] == ["random"]
    left_out = of(world.emitted, arms_pb2.ArmCompared)
    assert [(m.position.arm, m.result, m.plan_id) for m in left_out] == [
        (arm, arms_pb2.ARM_RESULT_LEFT_OUT, "") for arm in ("directly-sampled", "oracle")
    ]
    assert left_out[0].reason == "left out, no budget for train_tokens: 1280 asked for, 2560 of 2561 spent or reserved"
    decide(world, plan)
    out = world.send(measured(world, controls[0], WEAK))
    assert "control oracle: left out, no budget for train_tokens" in only(out, loop_pb2.LoopFinished).summary


def test_budget_of_the_main_arms_later_rounds_is_not_given_to_controls(tmp_path: Path) -> None:
    bound = 10 * 8 * 16
    fix = {"steps": 10, "batch_size": 8, "max_tokens": 16}
    _, _, none = arms_of(tmp_path / "a", fix=fix, rounds=2, budget={"train_tokens": 2 * bound + 900})
    _, _, one = arms_of(tmp_path / "b", fix=fix, rounds=2, budget={"train_tokens": 3 * bound})

    assert none == []
    assert [c.position.arm for c in one] == ["random"]


def test_limited_money_is_shared_by_all_arms_of_all_rounds_and_never_overspent(tmp_path: Path) -> None:
    prices = {"gpu_hour": 2.0}
    world, plan, controls = arms_of(tmp_path, rounds=2, budget={"money": 8.0, "prices": prices})

    amounts = [row.amount for row in world.state().reservations if row.resource == "money"]
    assert amounts == [1.0] * 4
    assert spent(world.state().reservations, "money") <= 8.0
    assert {c.gpu_s_limit for c in controls} == {plan.gpu_s_limit} == {1800.0}


def test_controls_wait_for_people_to_approve_and_review_the_main_arm(tmp_path: Path) -> None:
    world = World(tmp_path, arms=ARMS, approval=True, review=True)
    base = world.evaluated(world.base_ready(report=world.report()), WEAK, weak=1)
    question = only(world.send(world.requested(), base, world.diagnosed(base)), loop_pb2.ApprovalRequested)
    assert question.summary.endswith("; controls with as much each: random, directly-sampled, oracle")
    answer = loop_pb2.ApprovalGiven(position=question.position, plan_id=question.plan_id, approved=True)
    plan = only(world.send(answer), Planned)
    assert names(world.send(world.batched(plan, count=60))) == ["ApprovalRequested"]

    out = world.send(world.reviewed(plan, count=50))

    assert names(out) == ["DataBatchReady", *["InterventionPlanned"] * 3]
    assert {sum(item.example_count for item in c.items) for c in of(out, Planned)} == {50}


def test_training_fix_has_no_controls(tmp_path: Path) -> None:
    world = World(tmp_path, arms=ARMS)
    fix = {"train.eos_in_loss": "true"}
    plan = world.until_plan(kind=diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX, fixes=fix)
    out = decide(world, plan)
    assert names(out) == ["CheckpointPromoted", "LoopFinished"]


def test_cancelled_run_ends_its_controls_and_settles_them(tmp_path: Path) -> None:
    world, _, controls = arms_of(tmp_path)
    world.send(measured(world, controls[0], WEAK))

    out = world.send(loop_pb2.LoopCancelled(position=world.position(), cancelled_by="Ada", reason="enough"))

    assert names(out) == ["ArmCompared"] * 3 + ["LoopFinished"]
    assert all("the run ended before: cancelled by Ada: enough" in m.reason for m in of(out, arms_pb2.ArmCompared))
    assert all(row.is_settled for row in world.state().reservations)
    assert world.send(measured(world, controls[1], WEAK)) == []


def test_what_an_oracle_brought_does_not_reach_the_next_rounds_allocation(tmp_path: Path) -> None:
    plans = []
    for arms in ([], [{"oracle": {"verb": "jump"}}]):
        world, plan, controls = arms_of(
            tmp_path / str(len(arms)), arms=arms, rounds=2, allocation={"strategy": "expected_gain"}
        )
        after = world.evaluated(world.candidate_ready(plan), {**BETTER, "jump": 40}, weak=1, sealed=sealed_counts())
        out = world.send(after, world.diagnosed(after, failed=60))
        for control in controls:
            out += world.send(measured(world, control, {**BETTER, "jump": 100}))
        plans.append(only(out, Planned))
    assert plans[0].rationale == plans[1].rationale
    assert list(plans[0].items) == list(plans[1].items)


def test_regions_of_an_oracle_share_the_examples_equally() -> None:
    turn = (("manner", "around"), ("verb", "turn"))
    assert orders_of(Arm("oracle", (JUMP, turn)), example_count=61) == [(JUMP, 31), (turn, 30)]
    assert orders_of(Arm("oracle", (JUMP, turn)), example_count=1) == [(JUMP, 1)]


def test_redelivered_event_of_a_control_changes_nothing(tmp_path: Path) -> None:
    world, _, (control, *_) = arms_of(tmp_path)
    world.send(world.batched(control))
    state = world.state()
    assert world.deliver(world.sent[-1]) == []
    assert world.state() == state


def test_position_of_a_control_names_its_round_and_arm(tmp_path: Path) -> None:
    _, _, controls = arms_of(tmp_path)
    assert controls[0].position == common_pb2.RunPosition(run_id="tiny-1", round=1, arm="random")
