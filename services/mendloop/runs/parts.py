"""The nouns of a run view: what one event said, with when it was said. Knows neither protobuf nor bus.

Every part has a stamp; of two events that say the same thing, the one with the smaller stamp counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.artifacts.store import Artifact
from mendloop.runs.values import Accuracy, CauseScore, Cost, Fix, Slice, SliceScore, Stamp, exact_accuracy


@dataclass(frozen=True, slots=True)
class RecipeFacts:
    """What a reader needs of the recipe; it stands in the run specification, not in an event."""

    name: str
    task: str
    rounds: int
    approval: bool
    trains_base: bool
    axes: tuple[str, ...]
    weak_below: float
    margin: float
    new_examples: int
    train_tokens: int
    wall_s: float
    gpu_s: float | None = None
    teacher_tokens: int | None = None
    money: float | None = None
    gpu_hour_price: float = 0.0
    teacher_mtokens_price: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """LoopRequested."""

    stamp: Stamp
    run_spec: Artifact | None
    requested_by: str


@dataclass(frozen=True, slots=True)
class Cancellation:
    """LoopCancelled."""

    stamp: Stamp
    reason: str
    cancelled_by: str


@dataclass(frozen=True, slots=True)
class Steering:
    """LoopSteered. action is pause, resume or roll_back."""

    stamp: Stamp
    action: str
    reason: str
    steered_by: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """CheckpointRolledBack: the checkpoint whose promotion was taken back and the one that stands again."""

    stamp: Stamp
    round: int
    checkpoint: Artifact | None
    restored: Artifact | None
    reason: str
    rolled_back_by: str

    @property
    def in_words(self) -> str:
        """For the run's summary."""
        stands = self.restored.sha256[:12] if self.restored else "nothing"
        who = self.rolled_back_by or "a person"
        return f"{who} took back round {self.round}, {stands} stands again: {self.reason or 'no reason given'}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """CheckpointReady. kind is base, candidate or remeasured; baseline is None for a base."""

    stamp: Stamp
    artifact: Artifact
    kind: str
    baseline: Artifact | None
    plan_id: str
    run_spec: Artifact | None
    training_report: Artifact | None
    diagnosis_wanted: bool
    cost: Cost


@dataclass(frozen=True, slots=True)
class SealedCount:
    """Paired counts of a slice of the sealed holdout."""

    slice: Slice
    n: int
    only_baseline: int
    only_candidate: int
    both: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """EvalCompleted. checkpoint is the one that it measured, as the event repeats it (with this event's stamp)."""

    stamp: Stamp
    evaluation_id: str
    checkpoint: Checkpoint | None
    outcomes: Artifact | None
    accuracy: Accuracy
    slices: tuple[SliceScore, ...]
    weak_slice_count: int
    sealed: tuple[SealedCount, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """What the items that a slice has today were on an earlier checkpoint; accuracy is over both splits."""

    round: int
    evaluation_id: str
    checkpoint: Artifact | None
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class Failure:
    """EvalFailed: a weak slice, on the search split and on the split that had to agree."""

    stamp: Stamp
    evaluation_id: str
    slice: Slice
    accuracy: Accuracy
    confirmation: Accuracy
    p_value: float
    q_value: float
    threshold: float
    example_ids: tuple[str, ...]
    slice_version: str = ""
    trend: tuple[TrendPoint, ...] = ()

    @property
    def both(self) -> Accuracy:
        """Accuracy over both splits, which is what the trend's points are."""
        return exact_accuracy(self.accuracy.correct + self.confirmation.correct, self.accuracy.n + self.confirmation.n)


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One probe's measurement with its 95 % interval; n = 0 where the probe could not run."""

    probe: str
    measurement: str
    value: float
    low: float
    high: float
    n: int
    reading: str
    attachment: Artifact | None = None
    """JSON with what a figure cannot hold: a heat map, attributed examples."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the diagnosis proposes."""

    kind: str
    fixes: tuple[Fix, ...]
    rationale: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """DiagnosisReady. cause as in the enum without its prefix (EOS_MASKED); family in lower case (training)."""

    stamp: Stamp
    evaluation_id: str
    slice: Slice
    cause: str
    family: str
    confidence: float
    evidence: tuple[EvidenceRow, ...]
    scores: tuple[CauseScore, ...]
    interventions: tuple[Proposal, ...]
    failed_count: int
    summary: str
    cost: Cost
    also: tuple[str, ...] = ()
    """Further causes that the evidence shows beside the verdict."""


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """ApprovalRequested."""

    stamp: Stamp
    plan_id: str
    summary: str


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """ApprovalGiven."""

    stamp: Stamp
    plan_id: str
    approved: bool
    approved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlanItem:
    """Data for one slice."""

    slice: Slice
    example_count: int
    cause: str


@dataclass(frozen=True, slots=True)
class Plan:
    """InterventionPlanned. kind is data, training_fix, evaluation_fix or none."""

    stamp: Stamp
    plan_id: str
    kind: str
    items: tuple[PlanItem, ...]
    fixes: tuple[Fix, ...]
    checkpoint: Artifact | None
    train_token_limit: int
    replay_share: float
    rationale: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Examples dropped at a stage of the funnel, and why."""

    stage: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """DataBatchReady. reviewed_from is the batch that people reviewed into this one."""

    stamp: Stamp
    artifact: Artifact | None
    example_count: int
    drops: tuple[Drop, ...]
    manifest: Artifact | None
    cost: Cost
    awaits_review: bool = False
    reviewed_from: Artifact | None = None
    corpus: Artifact | None = None
    """The corpus that is replayed in place of the run's; None where that one is."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate's answer about a candidate; low and high bound after - before."""

    gate: str
    slice: Slice
    passed: bool
    n: int
    before: float
    after: float
    low: float
    high: float
    p_value: float
    requirement: str


@dataclass(frozen=True, slots=True)
class Decision:
    """CheckpointPromoted or CheckpointRejected: the checkpoint that was judged and the other one."""

    stamp: Stamp
    promoted: bool
    checkpoint: Artifact | None
    other: Artifact | None
    gates: tuple[Gate, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """The main arm's candidate against a control's on one slice; low and high bound main - control."""

    slice: Slice
    n: int
    main: Accuracy
    control: Accuracy
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """ArmCompared. result is compared, failed or left_out; only a compared one has differences."""

    stamp: Stamp
    result: str
    reason: str
    plan_id: str
    checkpoint: Artifact | None
    main_checkpoint: Artifact | None
    differences: tuple[ArmDifference, ...]
    """All items first, then the round's targets."""
    example_count: int
    main_example_count: int
    train_token_count: int
    main_train_token_count: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class BudgetStop:
    """BudgetExceeded."""

    stamp: Stamp
    resource: str
    limit: float
    used: float
    requested: float


@dataclass(frozen=True, slots=True)
class FailedTraining:
    """TrainingFailed. cause as in the enum without its prefix, in lower case (not_finite, diverged, budget …)."""

    stamp: Stamp
    cause: str
    reason: str
    step: int
    evidence: Artifact | None
    cost: Cost


@dataclass(frozen=True, slots=True)
class Letter:
    """DeadLetter of an event of this run."""

    stamp: Stamp
    handler: str
    reason: str
    event_type: str
    event_id: str
    attempt_count: int


@dataclass(frozen=True, slots=True)
class Finish:
    """LoopFinished. outcome as in the enum without its prefix, in lower case (promoted, evaluation_fixed)."""

    stamp: Stamp
    outcome: str
    checkpoint: Artifact | None
    summary: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class ScoredShard:
    """ShardScored."""

    stamp: Stamp
    evaluation_id: str
    index: int
    cost: Cost
