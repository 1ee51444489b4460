"""Carries a run on from step to step until it has to wait, and builds what it publishes on the way.

Knows messages and artifacts; `domain.steps` knows which step is next, the caller keeps the state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.endings import note_ended
from mendloop.bus.runtime import Emit
from mendloop.controller import messages
from mendloop.controller.arms import close_all, close_arm, compare_arm, plan_arms
from mendloop.controller.domain import budget
from mendloop.controller.domain.arms import CloseArm, CompareArm, PlanArms
from mendloop.controller.domain.judgement import judge_candidate, judge_remeasured, passed, sealed_answer
from mendloop.controller.domain.levels import standing_of
from mendloop.controller.domain.pairs import pair
from mendloop.controller.domain.planning import TooLittle, draft
from mendloop.controller.domain.records import (
    CheckpointKind,
    Gate,
    GateAnswer,
    Kind,
    Outcome,
    Plan,
    PlanState,
    Round,
    RunState,
    SealedQuery,
)
from mendloop.controller.domain.slices import in_words
from mendloop.controller.domain.steps import (
    AskReview,
    Finish,
    Intervene,
    Judge,
    Publish,
    TrainReviewed,
    ended,
    next_step,
)
from mendloop.controller.facts import past_of, raw, sealed_of, twins_of
from mendloop.controller.world import World, prices_of, run_spec_of, settled
from mendloop.core.errors import Permanent
from mendloop.core.fixes import Fix, repaired_training
from mendloop.core.recipe import Recipe, TrainSettings
from mendloop.core.run_spec import RunSpec
from mendloop.core.training import TrainingReport
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.v1 import common_pb2

log = logging.getLogger(__name__)


def carry_on(state: RunState, world: World) -> tuple[RunState, Sequence[Emit]]:
    """Take steps until the run has to wait or has ended. Raises Permanent where an artifact that it needs is broken."""
    emits: list[Emit] = []
    while state.is_open:
        if state.run.ending:
            state, out = _finish(state, Finish(Outcome(state.run.ending), state.run.ending_reason), world)
            return state, [*emits, *out]
        if state.is_paused:
            break
        spec = RunSpec.load(world.store, artifact_of(run_spec_of(state)))
        recipe = spec.recipe
        step = next_step(state, recipe=recipe)
        if step is None:
            break
        if isinstance(step, Intervene):
            state, out = _intervene(state, step, recipe, world)
        elif isinstance(step, Publish):
            state, out = _publish(state, step.plan)
        elif isinstance(step, AskReview | TrainReviewed):
            state, out = _review(state, step)
        elif isinstance(step, Judge):
            state, out = _judge(state, step, spec, world)
        elif isinstance(step, PlanArms):
            state, out = plan_arms(state, step, recipe, world)
        elif isinstance(step, CompareArm):
            state, out = compare_arm(state, step, recipe.budget.prices, world)
        elif isinstance(step, CloseArm):
            state, out = close_arm(state, step, recipe.budget.prices, world)
        else:
            state, out = _finish(state, step, world)
        emits += out
    return state, emits


def roll_back(state: RunState, world: World) -> tuple[RunState, Sequence[Emit]]:
    """Take the last promotion back: the checkpoint before it stands again, and a run that goes on ends.

    Nothing changes, with a warning, where nothing was promoted.
    """
    asked = max(state.steerings, key=lambda steering: steering.number)
    promoted = [plan for plan in state.plans if plan.state is PlanState.PROMOTED]
    if not promoted:
        log.warning("nothing to roll back", extra={"run_id": state.run_id})
        return carry_on(state, world) if state.is_open else (state, [])
    plan = max(promoted, key=lambda plan: plan.round)
    measured = state.evaluation(plan.round)
    assert measured is not None, f"run {state.run_id} promoted a round without an evaluation"
    state = state.with_plan(replace(plan, state=PlanState.ROLLED_BACK))
    restored = _standing_checkpoint(state, world.store)
    taken = messages.completed(measured).checkpoint_ready.checkpoint
    emit = messages.emit_rollback(state, plan, asked, checkpoint=taken, restored=restored)
    if not state.is_open:
        return state, [emit]
    reason = f"{asked.steered_by or 'a person'} took back round {plan.round}: {asked.reason or 'no reason given'}"
    state, out = _finish(state, Finish(ended(state, Outcome.REJECTED), reason), world)
    return state, [emit, *out]


Carry = Callable[[RunState, World], tuple[RunState, Sequence[Emit]]]
"""What an event leads to, once its fact is kept."""


def _intervene(state: RunState, step: Intervene, recipe: Recipe, world: World) -> tuple[RunState, list[Emit]]:
    """Reserve the budget, then publish the plan or ask a person; a budget that does not cover it ends the run."""
    choice = step.choice
    trained = messages.completed(state.trained) if state.trained else None
    report_ref = trained.checkpoint_ready.training_report if trained else common_pb2.ArtifactRef()
    training, work_s = recipe.fix, step.baseline.cost.wall_s
    if choice.kind is Kind.TRAINING_FIX:
        report = TrainingReport.load(world.store, artifact_of(report_ref))
        training, work_s = _repaired(report, choice.fixes), work_s + report.wall_s
    planned = draft(state, step, recipe=recipe, training=training, work_s=work_s, now=world.now, past=past_of(state))
    if isinstance(planned, TooLittle):
        return _finish(state, Finish(ended(state, Outcome.REJECTED), str(planned)), world)
    if isinstance(planned, budget.Shortage):
        number = (state.plan.round if state.plan else 0) + 1
        state, out = _finish(state, Finish(ended(state, Outcome.BUDGET_EXCEEDED), f"no budget for {planned}"), world)
        return state, [messages.emit_shortage(state, planned, number=number), *out]
    message = messages.planned(
        state,
        planned,
        fixes=choice.fixes,
        checkpoint=messages.completed(step.baseline).checkpoint_ready.checkpoint,
        run_spec=run_spec_of(state),
        training_report=report_ref,
    )
    plan = Plan(
        round=planned.round,
        arm="",
        plan_id=message.plan_id,
        kind=choice.kind,
        state=PlanState.WAITING if recipe.approval else PlanState.PUBLISHED,
        targets=planned.targets,
        baseline_round=step.baseline.round,
        replay_share=planned.replay_share,
        event=raw(message),
    )
    rows = budget.reserve(plan.plan_id, planned.requests)
    state = replace(state.with_plan(plan), reservations=(*state.reservations, *rows))
    _record_plan(state, plan, step, rationale=planned.rationale, store=world.store)
    return state, [messages.emit_plan(state, plan, arms=recipe.control_arms if choice.kind is Kind.DATA else ())]


def _repaired(report: TrainingReport, fixes: Sequence[tuple[str, str]]) -> TrainSettings:
    return repaired_training(report.job.settings, [Fix(setting, value) for setting, value in fixes])


def _publish(state: RunState, plan: Plan) -> tuple[RunState, list[Emit]]:
    plan = replace(plan, state=PlanState.PUBLISHED)
    state = state.with_plan(plan)
    return state, [messages.emit_plan(state, plan)]


def _review(state: RunState, step: AskReview | TrainReviewed) -> tuple[RunState, list[Emit]]:
    """Ask people about the batch, or send out what they left of it."""
    if isinstance(step, AskReview):
        asked = state.with_plan(replace(step.plan, state=PlanState.REVIEWING))
        return asked, [messages.emit_review_question(asked, step.plan, example_count=step.example_count)]
    sent = state.with_plan(replace(step.plan, state=PlanState.REVIEWED))
    return sent, [messages.emit_reviewed(sent, step.plan, step.review)]


def _judge(state: RunState, step: Judge, spec: RunSpec, world: World) -> tuple[RunState, list[Emit]]:
    """Settle the budget, ask every gate, decide."""
    before, after = messages.completed(step.baseline), messages.completed(step.measured)
    pairs = pair(
        world.outcomes.results(artifact_of(before.outcomes)), world.outcomes.results(artifact_of(after.outcomes))
    )
    is_candidate = step.measured.kind is CheckpointKind.CANDIDATE
    if is_candidate:
        suite = spec.sealed_items.sha256 if spec.sealed_items else ""
        told = [*world.elsewhere.sealed_answers(suite), *(q.is_told for q in state.queries if q.suite == suite)]
        answers = judge_candidate(
            pairs,
            targets=step.plan.targets,
            sealed=sealed_of(after),
            twins=twins_of(after),
            standing=standing_of(told, budget=spec.recipe.gates.sealed_queries),
            recipe=spec.recipe,
        )
        state = _asked(state, step.plan, answers, suite=suite, now=world.now)
    else:
        answers = judge_remeasured(pairs, targets=step.plan.targets, recipe=spec.recipe)
    verdict = PlanState.REJECTED
    if passed(answers):
        verdict = PlanState.PROMOTED if is_candidate else PlanState.HELPED
    decided = Round(
        round=step.plan.round,
        arm=step.plan.arm,
        plan_id=step.plan.plan_id,
        baseline=step.baseline.checkpoint,
        candidate=step.measured.checkpoint,
        decision=verdict.value,
        reason=messages.why(answers),
        decided_at=world.now,
    )
    gates = tuple(Gate(decided.round, decided.arm, place, answer) for place, answer in enumerate(answers))
    state = settled(state, step.plan, spec.recipe.budget.prices).with_plan(replace(step.plan, state=verdict))
    state = replace(state, rounds=(*state.rounds, decided), gates=(*state.gates, *gates))
    world.effects.answers += answers
    _record_gate(state, decided, answers, step, store=world.store)
    if not is_candidate:
        return state, []
    ready = (after.checkpoint_ready.checkpoint, before.checkpoint_ready.checkpoint)
    return state, [messages.emit_decision(state, decided, candidate=ready[0], baseline=ready[1], answers=answers)]


def _asked(state: RunState, plan: Plan, answers: Sequence[GateAnswer], *, suite: str, now: float) -> RunState:
    """The run with its query of the sealed items, where they were asked."""
    is_told = sealed_answer(answers)
    if is_told is None or not suite:
        return state
    return replace(state, queries=(*state.queries, SealedQuery(plan.round, plan.arm, suite, is_told, now)))


def _finish(state: RunState, step: Finish, world: World) -> tuple[RunState, list[Emit]]:
    """Release what the run still holds and say how it ended."""
    state, emits = close_all(state, reason=step.reason, world=world)
    plan = state.plan
    if plan is not None:
        state = settled(state, plan, prices_of(state, world.store))
    if plan is not None and plan.state in (PlanState.WAITING, PlanState.REVIEWING):
        state = state.with_plan(replace(plan, state=PlanState.REFUSED))
    emit = messages.emit_finish(
        state, outcome=step.outcome, checkpoint=_standing_checkpoint(state, world.store), reason=step.reason
    )
    run = replace(
        state.run,
        outcome=step.outcome.value,
        summary=messages.summary(state, step.reason),
        finished_at=world.now,
    )
    world.effects.outcomes.append(step.outcome)
    note_ended(world.store, state.run_id)
    return replace(state, run=run), [*emits, emit]


def _standing_checkpoint(state: RunState, store: ArtifactStore) -> common_pb2.ArtifactRef:
    """Empty where the run failed before its specification could be read."""
    if state.standing is not None:
        return messages.completed(state.standing).checkpoint_ready.checkpoint
    try:
        return artifact_ref(RunSpec.load(store, artifact_of(run_spec_of(state))).base)
    except (Permanent, ValueError):
        return common_pb2.ArtifactRef()


def _record_plan(state: RunState, plan: Plan, step: Intervene, *, rationale: str, store: ArtifactStore) -> None:
    inputs = tuple(f"diagnosis:{v.evaluation_id}/{v.slice_id}" for v in step.choice.verdicts)
    facts = {
        "kind": plan.kind.value,
        "targets": [in_words(target) for target in plan.targets],
        "rationale": rationale,
        "replay_share": plan.replay_share,
        "round": plan.round,
    }
    record(store, Node(f"plan:{plan.plan_id}", state.run_id, inputs, facts))


def _record_gate(
    state: RunState, decided: Round, answers: Sequence[GateAnswer], step: Judge, *, store: ArtifactStore
) -> None:
    """A remeasured checkpoint may have a gate node of its own already, so its node is named by the plan too."""
    is_candidate = step.measured.kind is CheckpointKind.CANDIDATE
    name = f"gate:{decided.candidate}" + ("" if is_candidate else f"/{decided.plan_id}")
    inputs = (f"checkpoint:{decided.candidate}", f"evaluation:{step.measured.evaluation_id}")
    rows = [{**asdict(answer), "conditions": in_words(answer.conditions)} for answer in answers]
    facts = {"decision": decided.decision, "reason": decided.reason, "gates": rows, "round": decided.round}
    record(store, Node(name, state.run_id, inputs, facts))
