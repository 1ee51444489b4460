"""Records as messages: what the controller publishes, with ids that do not depend on which event came last."""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.bus.runtime import Emit
from mendloop.controller.domain.budget import TRAIN_TOKENS, Shortage
from mendloop.controller.domain.controls import ArmDifference, ArmOutcome, ArmState
from mendloop.controller.domain.planning import Draft
from mendloop.controller.domain.records import (
    Conditions,
    Evaluation,
    GateAnswer,
    Kind,
    Outcome,
    Plan,
    PlanState,
    Review,
    Round,
    RunState,
    total,
)
from mendloop.controller.domain.slices import in_words
from mendloop.controller.domain.steering import Steering
from mendloop.controller.facts import raw
from mendloop.core.arms import DIRECTLY_SAMPLED, ORACLE, RANDOM, Arm
from mendloop.core.events import stable_hash
from mendloop.core.fixes import Fix
from mendloop.core.wire import fix_messages, slice_message
from mendloop.v1 import (
    arms_pb2,
    checkpoint_pb2,
    common_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
)

_PLANNED = {
    Kind.DATA: diagnosis_pb2.INTERVENTION_KIND_DATA,
    Kind.TRAINING_FIX: diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX,
    Kind.EVALUATION_FIX: diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX,
}

_CONTROLS = {
    RANDOM: intervention_pb2.CONTROL_ARM_RANDOM,
    DIRECTLY_SAMPLED: intervention_pb2.CONTROL_ARM_DIRECTLY_SAMPLED,
    ORACLE: intervention_pb2.CONTROL_ARM_ORACLE,
}


def completed(evaluation: Evaluation) -> evaluation_pb2.EvalCompleted:
    """The event of an evaluation, as it arrived."""
    return evaluation_pb2.EvalCompleted.FromString(evaluation.event)


def planned(
    state: RunState,
    draft: Draft,
    *,
    fixes: Sequence[tuple[str, str]],
    checkpoint: common_pb2.ArtifactRef,
    run_spec: common_pb2.ArtifactRef,
    training_report: common_pb2.ArtifactRef,
) -> intervention_pb2.InterventionPlanned:
    """The message of a plan; its id is a hash of run, round and content."""
    message = intervention_pb2.InterventionPlanned(
        position=common_pb2.RunPosition(run_id=state.run_id, round=draft.round),
        kind=_PLANNED[draft.kind],
        items=[
            intervention_pb2.PlanItem(
                slice=slice_message(share.verdict.conditions),
                example_count=share.example_count,
                cause=diagnosis_pb2.Cause.Value(f"CAUSE_{share.verdict.cause.upper()}"),
                operation=diagnosis_pb2.DiagnosisReady.FromString(share.verdict.event).operation,
            )
            for share in draft.shares
        ],
        fixes=fix_messages([Fix(setting, value) for setting, value in fixes]),
        checkpoint=checkpoint,
        run_spec=run_spec,
        training_report=training_report,
        train_token_limit=int(draft.requests.get(TRAIN_TOKENS, 0)),
        gpu_s_limit=draft.work_limits.gpu_s,
        teacher_token_limit=int(draft.work_limits.teacher_token_count),
        replay_share=draft.replay_share,
        diagnosis_wanted=not draft.is_last,
        rationale=draft.rationale,
    )
    message.plan_id = stable_hash("plan", state.run_id, str(draft.round), raw(message))[:32]
    return message


def planned_control(
    state: RunState, main: Plan, arm: Arm, orders: Sequence[tuple[Conditions, int]]
) -> intervention_pb2.InterventionPlanned:
    """The plan of a control: the main arm's with other examples. Nothing of it goes back into the main arm's."""
    message = intervention_pb2.InterventionPlanned.FromString(main.event)
    message.position.arm = arm.name
    message.control = _CONTROLS[arm.name]
    message.diagnosis_wanted = False
    message.ClearField("plan_id")
    message.ClearField("items")
    for conditions, count in orders:
        message.items.add(slice=slice_message(conditions), example_count=count)
    words = ", ".join(f"{count} of {in_words(conditions)}" for conditions, count in orders)
    message.rationale = f"control {arm.name}: {words}; all else as in plan {main.plan_id[:12]}"
    message.plan_id = stable_hash("plan", state.run_id, str(main.round), raw(message))[:32]
    return message


def ordered_count(plan: Plan) -> int:
    """Examples that a data plan orders."""
    return sum(item.example_count for item in intervention_pb2.InterventionPlanned.FromString(plan.event).items)


def emit_plan(state: RunState, plan: Plan, *, arms: Sequence[Arm] = ()) -> Emit:
    """The plan itself, or the question whether it may be carried out. arms are the controls that follow it."""
    message = intervention_pb2.InterventionPlanned.FromString(plan.event)
    identity = f"{state.run_id}/{plan.plan_id}"
    if plan.state is not PlanState.WAITING:
        return Emit(message, state.run_id, identity, state.run_id)
    beside = f"; controls with as much each: {', '.join(arm.name for arm in arms)}" if arms else ""
    summary = f"{message.rationale}; {_price(state, plan)}{beside}"
    question = loop_pb2.ApprovalRequested(position=message.position, plan_id=plan.plan_id, summary=summary)
    return Emit(question, state.run_id, identity, state.run_id)


def emit_review_question(state: RunState, plan: Plan, *, example_count: int) -> Emit:
    """The question what people leave of a plan's batch."""
    message = intervention_pb2.InterventionPlanned.FromString(plan.event)
    question = loop_pb2.ApprovalRequested(
        position=message.position,
        plan_id=plan.plan_id,
        summary=f"{example_count} examples wait for a review before they are trained on: {message.rationale}",
        review=True,
    )
    return Emit(question, state.run_id, f"{state.run_id}/{plan.plan_id}/review", state.run_id)


def emit_reviewed(state: RunState, plan: Plan, review: Review) -> Emit:
    """What people left of a plan's batch; plan, place, corpus and record are the batch's, whatever the answer says."""
    message = intervention_pb2.DataBatchReady.FromString(review.event)
    batch = state.batch(plan.plan_id)
    made = intervention_pb2.DataBatchReady.FromString(batch.event if batch else b"")
    message.record = made.record
    if made.corpus.sha256:
        message.corpus.CopyFrom(made.corpus)
    else:
        message.ClearField("corpus")
    message.plan.CopyFrom(intervention_pb2.InterventionPlanned.FromString(plan.event))
    message.position.CopyFrom(message.plan.position)
    message.awaits_review = False
    return Emit(message, state.run_id, f"{state.run_id}/{plan.plan_id}/reviewed", state.run_id)


def emit_decision(
    state: RunState,
    decided: Round,
    *,
    candidate: common_pb2.ArtifactRef,
    baseline: common_pb2.ArtifactRef,
    answers: Sequence[GateAnswer],
) -> Emit:
    """CheckpointPromoted or CheckpointRejected."""
    position = common_pb2.RunPosition(run_id=state.run_id, round=decided.round, arm=decided.arm)
    gates = [_gate_result(answer) for answer in answers]
    identity = f"{state.run_id}/{decided.round}/{decided.arm}/{decided.plan_id}"
    message: checkpoint_pb2.CheckpointPromoted | checkpoint_pb2.CheckpointRejected
    if decided.decision == PlanState.PROMOTED:
        message = checkpoint_pb2.CheckpointPromoted(
            position=position, checkpoint=candidate, replaced=baseline, gates=gates
        )
    else:
        message = checkpoint_pb2.CheckpointRejected(
            position=position, checkpoint=candidate, rolled_back_to=baseline, gates=gates, reason=decided.reason
        )
    return Emit(message, state.run_id, identity, state.run_id)


def emit_arm(state: RunState, outcome: ArmOutcome, *, main_count: int) -> Emit:
    """ArmCompared: exactly one per control of a round. main_count: new examples that the main arm trained on."""
    place = (outcome.round, outcome.arm)
    main = next(plan for plan in state.plans if (plan.round, plan.arm) == (outcome.round, ""))
    control = next((plan for plan in state.plans if (plan.round, plan.arm) == place), None)
    rows = [row for row in state.differences if (row.round, row.arm) == place]
    message = arms_pb2.ArmCompared(
        position=common_pb2.RunPosition(run_id=state.run_id, round=outcome.round, arm=outcome.arm),
        plan_id=outcome.plan_id,
        result=arms_pb2.ArmResult.Value(f"ARM_RESULT_{outcome.state.upper()}"),
        reason=outcome.reason,
        differences=[_difference(row) for row in sorted(rows, key=lambda row: row.position)],
        main_example_count=main_count,
    )
    ours, measured = state.evaluation_of(main), state.evaluation_of(control) if control else None
    if rows and ours and measured:
        message.checkpoint.CopyFrom(completed(measured).checkpoint_ready.checkpoint)
        message.main_checkpoint.CopyFrom(completed(ours).checkpoint_ready.checkpoint)
    if control is not None:
        batch, training, ours_trained = state.batch(control.plan_id), state.training(control), state.training(main)
        message.example_count = batch.example_count if batch else 0
        message.train_token_count = training.cost.token_count if training else 0
        message.main_train_token_count = ours_trained.cost.token_count if rows and ours_trained else 0
        cost = total(part.cost for part in (batch, training, measured) if part)
        message.metering.CopyFrom(common_pb2.Metering(**cost._asdict()))
    return Emit(message, state.run_id, f"{state.run_id}/{outcome.round}/{outcome.arm}", state.run_id)


def emit_rollback(
    state: RunState,
    plan: Plan,
    asked: Steering,
    *,
    checkpoint: common_pb2.ArtifactRef,
    restored: common_pb2.ArtifactRef,
) -> Emit:
    """CheckpointRolledBack: a promotion is taken back once."""
    message = checkpoint_pb2.CheckpointRolledBack(
        position=common_pb2.RunPosition(run_id=state.run_id, round=plan.round, arm=plan.arm),
        checkpoint=checkpoint,
        restored=restored,
        reason=asked.reason,
        rolled_back_by=asked.steered_by,
    )
    return Emit(message, state.run_id, f"{state.run_id}/{plan.plan_id}", state.run_id)


def emit_shortage(state: RunState, missing: Shortage, *, number: int) -> Emit:
    """BudgetExceeded."""
    message = loop_pb2.BudgetExceeded(
        position=common_pb2.RunPosition(run_id=state.run_id, round=number),
        resource=missing.resource,
        limit=missing.limit,
        used=missing.used,
        requested=missing.requested,
    )
    return Emit(message, state.run_id, f"{state.run_id}/{number}/{missing.resource}", state.run_id)


def emit_finish(state: RunState, *, outcome: Outcome, checkpoint: common_pb2.ArtifactRef, reason: str) -> Emit:
    """LoopFinished: exactly one per run, for its id is the run's."""
    cost = state.cost()
    message = loop_pb2.LoopFinished(
        position=common_pb2.RunPosition(run_id=state.run_id, round=state.plan.round if state.plan else 0),
        outcome=loop_pb2.LoopOutcome.Value(f"LOOP_OUTCOME_{outcome.upper()}"),
        checkpoint=checkpoint,
        summary=summary(state, reason),
        metering=common_pb2.Metering(**cost._asdict()),
    )
    return Emit(message, state.run_id, state.run_id, state.run_id)


def summary(state: RunState, reason: str) -> str:
    """One sentence on what the rounds brought, what they spent, and why the run ends."""
    parts = [f"round {decided.round} {decided.decision}: {decided.reason}" for decided in _ordered(state.rounds)]
    parts += [_arm_words(arm) for arm in sorted(state.arms, key=lambda arm: (arm.round, arm.arm))]
    used = [
        _spending(state, resource) for resource in sorted({row.resource for row in state.reservations} - {"wall_s"})
    ]
    return "; ".join(part for part in (*parts, reason, *used) if part)


def why(answers: Sequence[GateAnswer]) -> str:
    """What the gates say: the failed ones with their figures, or the targets' gain where all passed."""
    failed = [answer for answer in answers if not answer.passed]
    if failed:
        return "failed " + ", ".join(f"{a.gate} on {_figures(a)} (needed: {a.requirement})" for a in failed)
    return ", ".join(_figures(answer) for answer in answers if answer.gate == "target_improves")


def _figures(answer: GateAnswer) -> str:
    if not answer.n:
        return in_words(answer.conditions)
    return (
        f"{in_words(answer.conditions)} {answer.before:.1%} → {answer.after:.1%}"
        f" (n = {answer.n}, p = {answer.p_value:.2g})"
    )


def _arm_words(arm: ArmOutcome) -> str:
    said = arm.reason if arm.state is ArmState.COMPARED else f"control {arm.arm}: {arm.reason}"
    return f"round {arm.round} {said}"


def _difference(row: ArmDifference) -> arms_pb2.ArmDifference:
    return arms_pb2.ArmDifference(
        slice=slice_message(row.conditions),
        n=row.n,
        only_main=row.only_main,
        only_control=row.only_control,
        both=row.both,
        low=row.low,
        high=row.high,
        p_value=row.p_value,
    )


def _gate_result(answer: GateAnswer) -> checkpoint_pb2.GateResult:
    return checkpoint_pb2.GateResult(
        gate=answer.gate,
        slice=slice_message(answer.conditions),
        passed=answer.passed,
        n=answer.n,
        before=answer.before,
        after=answer.after,
        low=answer.low,
        high=answer.high,
        p_value=answer.p_value,
        requirement=answer.requirement,
    )


def _ordered(rounds: Sequence[Round]) -> list[Round]:
    return sorted(rounds, key=lambda decided: (decided.round, decided.arm))


def _price(state: RunState, plan: Plan) -> str:
    rows = sorted((row.resource, row.amount) for row in state.reservations if row.plan_id == plan.plan_id)
    return "holds " + ", ".join(f"{amount:g} {resource}" for resource, amount in rows)


def _spending(state: RunState, resource: str) -> str:
    used = sum(row.used for row in state.reservations if row.resource == resource)
    held = sum(row.amount for row in state.reservations if row.resource == resource)
    return f"{resource} used {used:,.0f} of {held:,.0f} reserved"
