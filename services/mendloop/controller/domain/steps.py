"""What a run does next, from what is known of it. The order in which the facts arrived makes no difference.

A step is taken when everything that it rests on is there; None means "wait".
"""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.controller.domain.arms import CloseArm, CompareArm, PlanArms, next_arm_step, open_controls
from mendloop.controller.domain.choice import Choice, choose
from mendloop.controller.domain.judgement import is_forgetting
from mendloop.controller.domain.records import (
    Evaluation,
    Kind,
    Outcome,
    Plan,
    PlanState,
    Review,
    RunState,
)
from mendloop.core.recipe import Recipe
from mendloop.core.training import trains_without_examples

REPLAY_STEP = 0.1
REPLAY_CAP = 0.95


@dataclass(frozen=True, slots=True)
class Intervene:
    """Plan a round."""

    choice: Choice
    baseline: Evaluation
    replay_share: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Send out a plan that a person approved."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class AskReview:
    """Ask people to review a plan's batch."""

    plan: Plan
    example_count: int


@dataclass(frozen=True, slots=True)
class TrainReviewed:
    """Send what people left of a plan's batch to training."""

    plan: Plan
    review: Review


@dataclass(frozen=True, slots=True)
class Judge:
    """Put a measured candidate before the gates."""

    plan: Plan
    baseline: Evaluation
    measured: Evaluation


@dataclass(frozen=True, slots=True)
class Finish:
    """End the run."""

    outcome: Outcome
    reason: str


Step = Intervene | Publish | AskReview | TrainReviewed | Judge | Finish | PlanArms | CompareArm | CloseArm


def next_step(state: RunState, *, recipe: Recipe) -> Step | None:
    """The next step of an open run, or None where it has to wait for an event.

    A round's decision does not wait for its control arms. The next round and the end do: they rest on what is left of
    the budget.
    """
    about_arms = next_arm_step(state, recipe=recipe)
    if about_arms is not None:
        return about_arms
    step = _main_step(state, recipe=recipe)
    return None if isinstance(step, Intervene | Finish) and open_controls(state) else step


def _main_step(state: RunState, *, recipe: Recipe) -> Step | None:
    plan = state.plan
    if plan is None:
        base = state.evaluation(0)
        return _after_measurement(state, base, recipe=recipe) if base else None
    if plan.state is PlanState.WAITING:
        return _after_waiting(state, plan)
    if plan.state in (PlanState.PUBLISHED, PlanState.REVIEWED):
        return _after_work(state, plan, recipe=recipe)
    if plan.state is PlanState.REVIEWING:
        return _after_review(state, plan)
    if plan.state is PlanState.REJECTED:
        return _after_rejection(state, plan, recipe=recipe)
    standing = state.standing
    assert standing is not None, f"run {state.run_id} promoted a round without an evaluation"
    return _after_measurement(state, standing, recipe=recipe)


def ended(state: RunState, outcome: Outcome) -> Outcome:
    """How the run ends: what it achieved before counts more than why it stops now."""
    if state.has_plan(PlanState.PROMOTED):
        return Outcome.PROMOTED
    if state.has_plan(PlanState.HELPED):
        return Outcome.EVALUATION_FIXED
    return outcome


def _after_measurement(state: RunState, measured: Evaluation, *, recipe: Recipe) -> Step | None:
    verdicts = state.verdicts(measured)
    if len(verdicts) < measured.weak_slice_count:
        return None
    if not measured.weak_slice_count:
        reason = f"no slice is weak: {measured.correct} of {measured.n} items are right"
        return Finish(ended(state, Outcome.HEALTHY), reason if not state.plans else "")
    if _rounds_left(state, recipe) <= 0:
        return Finish(ended(state, Outcome.REJECTED), "")
    choice = choose(verdicts)
    if choice is None:
        causes = ", ".join(sorted({verdict.cause for verdict in verdicts}))
        return Finish(
            ended(state, Outcome.ABSTAINED),
            f"{len(verdicts)} weak slice(s) without a proposed intervention ({causes}): a person has to look",
        )
    if choice.kind is Kind.TRAINING_FIX and not state.has_training_report:
        settings = ", ".join(f"{setting}={value}" for setting, value in choice.fixes)
        return Finish(
            ended(state, Outcome.ABSTAINED),
            f"the verdict asks for {settings}, but the checkpoint was not trained here: train it again so",
        )
    return Intervene(choice, measured, recipe.replay_share)


def _after_waiting(state: RunState, plan: Plan) -> Step | None:
    answer = state.approval(plan.plan_id)
    if answer is None:
        return None
    if answer.approved:
        return Publish(plan)
    outcome = Outcome.REJECTED if state.has_plan(PlanState.REJECTED) else Outcome.ABSTAINED
    who = answer.approved_by or "a person"
    return Finish(
        ended(state, outcome), f"{who} refused the plan of round {plan.round}: {answer.reason or 'no reason given'}"
    )


def _after_review(state: RunState, plan: Plan) -> Step | None:
    """A batch of which nothing is left is refused, whatever the answer says."""
    review = state.review(plan.plan_id)
    if review is None:
        return None
    if review.approved and review.example_count:
        return TrainReviewed(plan, review)
    who = review.reviewed_by or "a person"
    what = "left no example of" if review.approved else "refused"
    reason = f"{who} {what} the batch of round {plan.round}: {review.reason or 'no reason given'}; nothing was trained"
    outcome = Outcome.REJECTED if state.has_plan(PlanState.REJECTED) else Outcome.ABSTAINED
    return Finish(ended(state, outcome), reason)


def _after_work(state: RunState, plan: Plan, *, recipe: Recipe) -> Step | None:
    """A data round is judged only when its batch is known too, so that the budget is settled with what was metered."""
    if plan.kind is Kind.DATA:
        batch = state.batch(plan.plan_id)
        if batch is None:
            return None
        if not batch.example_count and not trains_without_examples(recipe.fix, has_corpus=batch.has_corpus):
            drops = f" ({batch.reason})" if batch.reason else ""
            return Finish(
                ended(state, Outcome.ABSTAINED), f"no new example passed the funnel{drops}; nothing was trained"
            )
        if recipe.review and batch.example_count and plan.state is PlanState.PUBLISHED:
            return AskReview(plan, batch.example_count)
    baseline, measured = state.evaluation(plan.baseline_round), state.evaluation(plan.round)
    if measured is None or baseline is None:
        return None
    return Judge(plan, baseline, measured)


def _after_rejection(state: RunState, plan: Plan, *, recipe: Recipe) -> Step | None:
    """Waits for the rejected candidate's diagnoses, which nobody needs but whose cost belongs to the run."""
    rejected, baseline = state.evaluation(plan.round), state.evaluation(plan.baseline_round)
    assert rejected is not None, f"run {state.run_id} rejected a round without an evaluation"
    assert baseline is not None, f"run {state.run_id} has a plan without a baseline"
    if len(state.verdicts(rejected)) < rejected.weak_slice_count:
        return None
    raised = min(REPLAY_CAP, round(plan.replay_share + REPLAY_STEP, 6))
    can_rescue = plan.kind is Kind.DATA and raised > plan.replay_share and is_forgetting(state.answers(plan.round))
    choice = choose(state.verdicts(baseline))
    if _rounds_left(state, recipe) <= 0 or not can_rescue or choice is None:
        return Finish(ended(state, Outcome.REJECTED), "")
    return Intervene(choice, baseline, raised)


def _rounds_left(state: RunState, recipe: Recipe) -> int:
    return recipe.rounds - (state.plan.round if state.plan else 0)
