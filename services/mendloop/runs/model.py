"""RunView and RoundView: the parts of a run in their places, and what follows from them.

Knows neither protobuf nor bus.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mendloop.runs.parts import (
    ApprovalAnswer,
    ApprovalQuestion,
    ArmComparison,
    Batch,
    BudgetStop,
    Cancellation,
    Checkpoint,
    Decision,
    Diagnosis,
    Evaluation,
    FailedTraining,
    Failure,
    Finish,
    Letter,
    Plan,
    RecipeFacts,
    Request,
    Rollback,
    ScoredShard,
    Steering,
)
from mendloop.runs.values import UNKNOWN_TIME, Cost


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round (0 measures the base) of one arm ("" is the main one). Tuples are sorted, each slice stands once."""

    number: int
    arm: str = ""
    question: ApprovalQuestion | None = None
    answer: ApprovalAnswer | None = None
    plan: Plan | None = None
    batch: Batch | None = None
    """As it was made; reviewed is what people left of it."""
    review_question: ApprovalQuestion | None = None
    review_answer: ApprovalAnswer | None = None
    reviewed: Batch | None = None
    ready: Checkpoint | None = None
    """CheckpointReady; none is published for a checkpoint that is only measured again."""
    training_failure: FailedTraining | None = None
    """TrainingFailed, where no checkpoint came of the round's training."""
    shard_count: int = 0
    shards: tuple[ScoredShard, ...] = ()
    evaluation: Evaluation | None = None
    failures: tuple[Failure, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    decision: Decision | None = None
    comparison: ArmComparison | None = None
    """ArmCompared, of a control arm: nothing else is decided about it."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The round's checkpoint: as it was made, else as it was measured."""
        return self.ready or (self.evaluation.checkpoint if self.evaluation else None)

    @property
    def added_count(self) -> int:
        """Examples that training may use: none while people look at them."""
        if self.reviewed is not None:
            return self.reviewed.example_count
        return self.batch.example_count if self.batch and not self.batch.awaits_review else 0

    @property
    def is_judged(self) -> bool:
        """Whether gates decide on the round's checkpoint: it is neither a base nor a control's."""
        return self.checkpoint is not None and self.checkpoint.kind != "base" and not self.arm

    @property
    def shards_done(self) -> int:
        """Number of scored shards, of shard_count."""
        return len(self.shards)

    @property
    def is_diagnosed(self) -> bool:
        """Whether the evaluation is in, and a verdict for each of its weak slices."""
        return self.evaluation is not None and len(self.diagnoses) >= self.evaluation.weak_slice_count

    @property
    def cost(self) -> Cost:
        """Cost of the round's work; scored shards count until the evaluation that contains them is complete."""
        parts = [
            part.cost for part in (self.batch, self.ready, self.training_failure, *self.diagnoses) if part is not None
        ]
        parts += [self.evaluation.cost] if self.evaluation else [shard.cost for shard in self.shards]
        return sum(parts, Cost())


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, from what its events said so far. Rounds are in order."""

    run_id: str
    recipe: RecipeFacts | None = None
    request: Request | None = None
    cancellation: Cancellation | None = None
    steerings: tuple[Steering, ...] = ()
    """What people asked of the run, oldest first."""
    rollbacks: tuple[Rollback, ...] = ()
    rounds: tuple[RoundView, ...] = ()
    budget_stops: tuple[BudgetStop, ...] = ()
    dead_letters: tuple[Letter, ...] = ()
    finish: Finish | None = None
    first_at: datetime = UNKNOWN_TIME
    """Time of the run's oldest event, UNKNOWN_TIME where none carries a time."""
    last_at: datetime = UNKNOWN_TIME
    """Time of the run's newest event."""

    @property
    def is_paused(self) -> bool:
        """Whether a person holds the run: the last pause was not followed by a resume."""
        asked = [part.action for part in self.steerings if part.action in ("pause", "resume")]
        return bool(asked) and asked[-1] == "pause"

    @property
    def recipe_name(self) -> str:
        """Name of the recipe; empty where the run specification was not read."""
        return self.recipe.name if self.recipe else ""

    def round_at(self, number: int, arm: str) -> RoundView | None:
        """The round of a number and arm (empty: the main one), or None where no event of it came."""
        return next((part for part in self.rounds if (part.number, part.arm) == (number, arm)), None)

    @property
    def main(self) -> tuple[RoundView, ...]:
        """The rounds of the main arm, in order."""
        return tuple(part for part in self.rounds if not part.arm)

    @property
    def controls(self) -> tuple[RoundView, ...]:
        """The rounds of control arms, by number and arm."""
        return tuple(part for part in self.rounds if part.arm)

    @property
    def current(self) -> RoundView | None:
        """The newest round of the main arm, or of any arm where that has none."""
        return max(self.rounds, key=lambda r: (r.number, not r.arm), default=None)

    @property
    def current_round(self) -> int:
        """Number of the newest round."""
        return self.current.number if self.current else 0

    @property
    def started_at(self) -> datetime | None:
        """When the run was asked for, or its oldest event where the request was not read."""
        at = self.request.stamp.at if self.request else self.first_at
        return None if at == UNKNOWN_TIME else at

    @property
    def finished_at(self) -> datetime | None:
        """When the run ended; None while it goes on."""
        return self.finish.stamp.at if self.finish else None

    @property
    def outcome(self) -> str:
        """How the run ended, e.g. promoted; empty while it goes on."""
        return self.finish.outcome if self.finish else ""

    @property
    def summary(self) -> str:
        """The controller's sentence on how the run ended, and what was taken back since; empty while it goes on."""
        ended = [self.finish.summary] if self.finish else []
        return "; ".join([*ended, *(rollback.in_words for rollback in self.rollbacks)])

    @property
    def is_finished(self) -> bool:
        """Whether the run is over."""
        return self.finish is not None

    @property
    def cost(self) -> Cost:
        """Cost of all rounds, as the services metered it."""
        return sum((part.cost for part in self.rounds), Cost())
