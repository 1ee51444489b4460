"""What lists show of a run: its line, its slices, its dead letters. Knows views; knows neither SQL nor web."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mendloop.runs.model import RoundView, RunView
from mendloop.runs.stages import stage_of, state_of
from mendloop.runs.values import UNKNOWN_TIME, Accuracy, Cost


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of a list. Accuracies are those of all open items, None where nothing was measured."""

    run_id: str
    recipe: str
    task: str
    state: str
    stage: str
    round: int
    outcome: str
    summary: str
    requested_by: str
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    accuracy_before: float | None
    accuracy_after: float | None
    dead_letter_count: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """A slice's accuracy in a round, with its exact 95 % interval."""

    round: int
    arm: str
    n: int
    correct: int
    low: float
    high: float
    is_weak: bool

    @property
    def accuracy(self) -> float | None:
        """The share that was right; None where nothing was measured."""
        return self.correct / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class SliceLine:
    """One slice of a run: is_weak where any evaluation of the run called it weak, is_weak_now where the newest did."""

    slice_id: str
    definition: str
    conditions: tuple[tuple[str, str], ...]
    is_weak: bool
    is_weak_now: bool
    cause: str
    confidence: float | None
    trend: tuple[TrendPoint, ...]


@dataclass(frozen=True, slots=True)
class LetterLine:
    """An event that a service refused for good; replayed_at is None while nobody gave it back."""

    id: str
    run_id: str
    event_type: str
    service: str
    reason: str
    at: datetime | None
    attempts: int
    replayed_at: datetime | None
    replayed_by: str
    replay_reason: str


def line_of(view: RunView) -> RunLine:
    """The line of a run."""
    before, after = _accuracies(view)
    return RunLine(
        run_id=view.run_id,
        recipe=view.recipe_name,
        task=view.recipe.task if view.recipe else "",
        state=state_of(view),
        stage=stage_of(view),
        round=view.current_round,
        outcome=view.outcome,
        summary=view.summary,
        requested_by=view.request.requested_by if view.request else "",
        started_at=view.started_at,
        finished_at=view.finished_at,
        updated_at=None if view.last_at == UNKNOWN_TIME else view.last_at,
        accuracy_before=before.value if before else None,
        accuracy_after=after.value if after else None,
        dead_letter_count=len(view.dead_letters),
        cost=view.cost,
    )


def _accuracies(view: RunView) -> tuple[Accuracy | None, Accuracy | None]:
    """Of the base, and of the checkpoint that was promoted last, else of the one that was judged last."""
    measured = [part for part in view.rounds if part.evaluation is not None]
    base = next((part for part in measured if part.number == 0), None)
    judged = [part for part in measured if part.number > 0]
    promoted = [part for part in judged if part.decision is not None and part.decision.promoted]
    found = (promoted or judged)[-1:]
    return _accuracy(base), _accuracy(found[0] if found else None)


def _accuracy(part: RoundView | None) -> Accuracy | None:
    return part.evaluation.accuracy if part is not None and part.evaluation is not None else None
