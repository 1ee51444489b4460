"""Which stage of a run works now, and how long each took: intervals between the times of events.

A stage that never ended (its end was lost, or a later round began without it) has no duration and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mendloop.runs.model import RoundView, RunView
from mendloop.runs.values import UNKNOWN_TIME, Stamp

BASE_TRAINING, EVALUATION, DIAGNOSIS, PLANNING = "base training", "evaluation", "diagnosis", "planning"
APPROVAL, GENERATION, REVIEW, TRAINING, GATES = "approval", "generation", "review", "training", "gates"
STAGES = (BASE_TRAINING, EVALUATION, DIAGNOSIS, PLANNING, APPROVAL, GENERATION, REVIEW, TRAINING, GATES)
REQUESTED, PAUSED, CANCELLING, FINISHED = "requested", "paused", "cancelling", "finished"
_STATE = {
    BASE_TRAINING: "training",
    EVALUATION: "evaluating",
    DIAGNOSIS: "diagnosing",
    PLANNING: "planning",
    APPROVAL: "waiting-approval",
    GENERATION: "generating",
    REVIEW: "waiting-review",
    TRAINING: "training",
    GATES: "gating",
}
STATES = (REQUESTED, *dict.fromkeys(_STATE.values()), PAUSED, CANCELLING, FINISHED)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of one round; ended_at is None while it works."""

    stage: str
    round: int
    arm: str
    started_at: datetime
    ended_at: datetime | None

    def seconds(self, *, now: datetime | None = None) -> float | None:
        """Its duration, up to now where it still works; None where that is not given."""
        end = self.ended_at or now
        return None if end is None else max(0.0, (end - self.started_at).total_seconds())


def stage_times(view: RunView) -> tuple[StageTime, ...]:
    """Every stage that began, in order. Open are only stages of the newest round of an arm, none of a finished run."""
    return tuple(time for part in view.rounds for time in _round_times(view, part))


def seconds_by_stage(view: RunView, *, now: datetime | None = None) -> dict[str, float]:
    """Seconds per stage over all rounds; a stage that works now counts up to now where that is given."""
    totals: dict[str, float] = {}
    for time in stage_times(view):
        seconds = time.seconds(now=now)
        if seconds is not None:
            totals[time.stage] = totals.get(time.stage, 0.0) + seconds
    return {stage: totals[stage] for stage in STAGES if stage in totals}


def stage_of(view: RunView) -> str:
    """The stage that works now, e.g. diagnosis; empty for a finished run, or where no event tells."""
    opened = [time for time in stage_times(view) if time.ended_at is None]
    if not opened:
        return ""
    # While control arms work, the main arm plans nothing: it waits for them.
    return max(opened, key=lambda time: (time.round, time.stage != PLANNING, time.started_at)).stage


def state_of(view: RunView) -> str:
    """One of STATES."""
    if view.finish is not None:
        return FINISHED
    if view.cancellation is not None:
        return CANCELLING
    if view.is_paused:
        return PAUSED
    stage = stage_of(view)
    if stage == BASE_TRAINING and not (view.recipe and view.recipe.trains_base):
        return REQUESTED
    if stage:
        return _STATE[stage]
    return _STATE[PLANNING] if view.rounds else REQUESTED


def _round_times(view: RunView, part: RoundView) -> Iterator[StageTime]:
    following = next((r for r in view.rounds if r.number > part.number and r.arm == part.arm), None)
    for stage, started_at, ended_at in _intervals(view, part, following):
        if started_at is None or started_at == UNKNOWN_TIME or ended_at == UNKNOWN_TIME:
            continue
        if ended_at is None and view.finish is not None and following is None:
            ended_at = view.finish.stamp.at
        if ended_at is not None or following is None:
            yield StageTime(stage, part.number, part.arm, started_at, ended_at)


class _Stamped(Protocol):
    @property
    def stamp(self) -> Stamp: ...


_Interval = tuple[str, datetime | None, datetime | None]


def _intervals(view: RunView, part: RoundView, following: RoundView | None) -> Iterator[_Interval]:
    """Stage, start and end; None where the event that says it is not there."""
    plan, batch, ready, evaluation = part.plan, part.batch, part.ready, part.evaluation
    if part.number == 0:
        yield BASE_TRAINING, _at(view.request), _at(ready) or _at(evaluation)
    yield APPROVAL, _at(part.question), _at(part.answer) or _at(plan)
    if plan is not None and plan.kind == "data":
        yield GENERATION, _at(plan), _at(batch)
        if batch is not None and batch.awaits_review:
            yield REVIEW, _at(batch), _at(part.review_answer) or _at(part.reviewed)
    yield TRAINING, _training_start(part), _at(ready) or _at(part.training_failure)
    evaluation_start = _at(plan) if plan is not None and plan.kind == "evaluation_fix" else _at(ready)
    yield EVALUATION, evaluation_start, _at(evaluation)
    if evaluation is None:
        return
    if evaluation.weak_slice_count:
        last = max((diagnosis.stamp.at for diagnosis in part.diagnoses), default=None)
        yield DIAGNOSIS, _at(evaluation), last if part.is_diagnosed else None
    planned_at = (_at(following.question) or _at(following.plan)) if following else None
    if part.is_judged:
        yield GATES, _at(evaluation), _at(part.decision) or planned_at
    if not part.arm:
        yield PLANNING, _planning_start(part), planned_at


def _training_start(part: RoundView) -> datetime | None:
    if part.batch is not None:
        trained = part.reviewed if part.batch.awaits_review else part.batch
        return _at(trained) if trained is not None and (trained.example_count or trained.corpus) else None
    return _at(part.plan) if part.plan is not None and part.plan.kind == "training_fix" else None


def _planning_start(part: RoundView) -> datetime | None:
    """When all is in that the controller decides on; None for a remeasured checkpoint, whose gates decide it too."""
    if not part.is_diagnosed or (part.is_judged and part.decision is None):
        return None
    facts = (part.evaluation, part.decision, *part.diagnoses)
    return max(fact.stamp.at for fact in facts if fact is not None)


def _at(part: _Stamped | None) -> datetime | None:
    return None if part is None else part.stamp.at
