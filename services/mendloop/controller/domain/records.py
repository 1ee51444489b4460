"""What the controller knows of a run: facts that arrived and decisions that it took. Knows neither SQL nor protobuf.

`event` fields hold the message as it arrived or left, byte for byte; the domain never looks inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from mendloop.controller.domain.controls import ArmDifference, ArmFailure, ArmOutcome
from mendloop.controller.domain.steering import Steering, is_paused, paused_s

Conditions = tuple[tuple[str, str], ...]
"""A slice: (axis, value) pairs that all hold; empty means all items."""


class Kind(StrEnum):
    """What an intervention does."""

    DATA = "data"
    TRAINING_FIX = "training_fix"
    EVALUATION_FIX = "evaluation_fix"
    NONE = "none"


class CheckpointKind(StrEnum):
    """Why a checkpoint was measured."""

    BASE = "base"
    CANDIDATE = "candidate"
    REMEASURED = "remeasured"


class PlanState(StrEnum):
    """Where a plan is: it waits for a person, is at work, was refused, or is decided."""

    WAITING = "waiting"
    PUBLISHED = "published"
    REVIEWING = "reviewing"
    """Its batch waits for people."""
    REVIEWED = "reviewed"
    """What people left of its batch is at work."""
    REFUSED = "refused"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"
    """Promoted, and taken back by a person."""
    HELPED = "helped"
    """An evaluation fix that helped: nothing was trained, the score is right now."""
    SETTLED = "settled"
    """A control's: it is over and nothing is promoted by it."""


class Outcome(StrEnum):
    """How a run ended; the names of mendloop.v1.LoopOutcome in lower case."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    HEALTHY = "healthy"
    ABSTAINED = "abstained"
    BUDGET_EXCEEDED = "budget_exceeded"
    CANCELLED = "cancelled"
    FAILED = "failed"
    EVALUATION_FIXED = "evaluation_fixed"


class Cost(NamedTuple):
    """What work cost."""

    wall_s: float = 0.0
    gpu_s: float = 0.0
    token_count: int = 0
    flops: float = 0.0


def total(costs: Iterable[Cost]) -> Cost:
    """The sum, exact to the last bit in any order of arrival."""
    rows = list(costs)
    return Cost(
        math.fsum(cost.wall_s for cost in rows),
        math.fsum(cost.gpu_s for cost in rows),
        sum(cost.token_count for cost in rows),
        math.fsum(cost.flops for cost in rows),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """The run itself."""

    started_at: float
    """Unix time of the first event of the run that the controller saw."""
    request: bytes = b""
    """LoopRequested; empty until it came."""
    ending: str = ""
    """How the run must end whatever it does, e.g. cancelled, failed, budget_exceeded; or empty."""
    ending_reason: str = ""
    outcome: str = ""
    """How it ended; empty while it is open."""
    summary: str = ""
    finished_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A measured checkpoint."""

    round: int
    arm: str
    evaluation_id: str
    kind: CheckpointKind
    plan_id: str
    checkpoint: str
    """SHA-256 of the checkpoint's manifest."""
    weak_slice_count: int
    correct: int
    n: int
    has_training_report: bool
    cost: Cost
    event: bytes
    """EvalCompleted."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict about a weak slice and the intervention that it puts first."""

    round: int
    arm: str
    evaluation_id: str
    slice_id: str
    conditions: Conditions
    cause: str
    confidence: float
    kind: Kind
    fixes: tuple[tuple[str, str], ...]
    """(setting, value as JSON); empty for data."""
    failed_count: int
    cost: Cost
    event: bytes


@dataclass(frozen=True, slots=True)
class Training:
    """A checkpoint that was made, with what making it cost."""

    round: int
    arm: str
    plan_id: str
    checkpoint: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class Batch:
    """A data batch that answers a plan."""

    plan_id: str
    example_count: int
    manifest: str
    """SHA-256 of the batch's lineage manifest; empty where there is none."""
    reason: str
    """Drops in words, for the case that nothing is left."""
    cost: Cost
    has_corpus: bool = False
    """Whether it brought a corpus of its own: repaired, or with other shares of its clusters."""
    event: bytes = b""
    """DataBatchReady; empty in records of an earlier version."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's answer to a plan."""

    plan_id: str
    approved: bool
    approved_by: str
    reason: str
    given_at: float


@dataclass(frozen=True, slots=True)
class Review:
    """People's answer to a plan's batch."""

    plan_id: str
    approved: bool
    reviewed_by: str
    reason: str
    example_count: int
    """Examples that they left."""
    given_at: float
    event: bytes
    """DataBatchReady with what they left; empty where they refused the batch."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An intervention that was decided on. One a round and arm; the main arm is empty."""

    round: int
    arm: str
    plan_id: str
    kind: Kind
    state: PlanState
    targets: tuple[Conditions, ...]
    baseline_round: int
    replay_share: float
    event: bytes
    """InterventionPlanned."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Budget that a plan holds (used is 0 while it is open) or used (amount stays for the record)."""

    plan_id: str
    resource: str
    amount: float
    used: float = 0.0
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """One gate's answer with its numbers, as mendloop.v1.GateResult has them. An undecidable answer passed."""

    gate: str
    conditions: Conditions
    passed: bool
    n: int
    before: float
    after: float
    low: float
    high: float
    p_value: float
    requirement: str


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate's answer at its place in a round."""

    round: int
    arm: str
    position: int
    answer: GateAnswer


@dataclass(frozen=True, slots=True)
class Round:
    """A decided round: what was compared with what, and what came of it."""

    round: int
    arm: str
    plan_id: str
    baseline: str
    candidate: str
    decision: str
    reason: str
    decided_at: float


@dataclass(frozen=True, slots=True)
class SealedQuery:
    """A candidate was put before a set of sealed items: the answers are counted over all runs."""

    round: int
    arm: str
    suite: str
    """SHA-256 of the table of sealed items."""
    is_told: bool
    """Whether the answer was anything but "no gain"."""
    asked_at: float


@dataclass(frozen=True, slots=True)
class RunState:
    """Everything about one run."""

    run_id: str
    run: Run
    evaluations: tuple[Evaluation, ...] = field(default=())
    diagnoses: tuple[Diagnosis, ...] = field(default=())
    trainings: tuple[Training, ...] = field(default=())
    batches: tuple[Batch, ...] = field(default=())
    approvals: tuple[Approval, ...] = field(default=())
    reviews: tuple[Review, ...] = field(default=())
    plans: tuple[Plan, ...] = field(default=())
    reservations: tuple[Reservation, ...] = field(default=())
    rounds: tuple[Round, ...] = field(default=())
    gates: tuple[Gate, ...] = field(default=())
    queries: tuple[SealedQuery, ...] = field(default=())
    steerings: tuple[Steering, ...] = field(default=())
    arms: tuple[ArmOutcome, ...] = field(default=())
    differences: tuple[ArmDifference, ...] = field(default=())
    arm_failures: tuple[ArmFailure, ...] = field(default=())

    @property
    def is_paused(self) -> bool:
        """Whether a person holds the run."""
        return is_paused(self.steerings)

    def elapsed_s(self, now: float) -> float:
        """Seconds since the start in which the run was not paused."""
        return max(0.0, now - self.run.started_at - paused_s(self.steerings, now=now))

    @property
    def is_open(self) -> bool:
        """Whether the run was asked for and has not ended."""
        return bool(self.run.request) and not self.run.outcome

    @property
    def plan(self) -> Plan | None:
        """The latest plan of the main arm."""
        return max((plan for plan in self.plans if not plan.arm), key=lambda plan: plan.round, default=None)

    @property
    def standing(self) -> Evaluation | None:
        """The evaluation that describes the checkpoint that stands."""
        return self.evaluation(self._last_round({PlanState.PROMOTED, PlanState.HELPED}))

    @property
    def trained(self) -> Evaluation | None:
        """The evaluation that followed the training of the checkpoint that stands."""
        return self.evaluation(self._last_round({PlanState.PROMOTED}))

    def _last_round(self, states: set[PlanState]) -> int:
        return max((plan.round for plan in self.plans if plan.state in states), default=0)

    def has_plan(self, state: PlanState) -> bool:
        """Whether any round's plan is in this state."""
        return any(plan.state is state for plan in self.plans)

    def evaluation(self, number: int) -> Evaluation | None:
        """The evaluation of a round that belongs to its main plan (the base has none), or None."""
        plan_ids = {plan.plan_id for plan in self.plans if plan.round == number and not plan.arm} or {""}
        return next((e for e in self.evaluations if e.round == number and e.plan_id in plan_ids), None)

    def evaluation_of(self, plan: Plan) -> Evaluation | None:
        """The evaluation that a plan led to, or None."""
        return next((e for e in self.evaluations if e.plan_id == plan.plan_id), None)

    def verdicts(self, evaluation: Evaluation) -> tuple[Diagnosis, ...]:
        """The diagnoses of an evaluation in this round, in an order that does not depend on arrival."""
        key = (evaluation.round, evaluation.arm, evaluation.evaluation_id)
        found = [d for d in self.diagnoses if (d.round, d.arm, d.evaluation_id) == key]
        return tuple(sorted(found, key=lambda diagnosis: diagnosis.slice_id))

    def batch(self, plan_id: str) -> Batch | None:
        """The batch of a plan, or None."""
        return next((batch for batch in self.batches if batch.plan_id == plan_id), None)

    def approval(self, plan_id: str) -> Approval | None:
        """The answer to a plan, or None."""
        return next((answer for answer in self.approvals if answer.plan_id == plan_id), None)

    def review(self, plan_id: str) -> Review | None:
        """The answer to a plan's batch, or None."""
        return next((answer for answer in self.reviews if answer.plan_id == plan_id), None)

    def added_count(self, plan: Plan) -> int:
        """Examples of a plan that training may use: none while people look at them, then those that they left."""
        review, batch = self.review(plan.plan_id), self.batch(plan.plan_id)
        if plan.state is PlanState.REVIEWED and review is not None:
            return review.example_count
        return batch.example_count if batch and plan.state is not PlanState.REVIEWING else 0

    def training(self, plan: Plan) -> Training | None:
        """The training that a plan led to, or None."""
        return next((t for t in self.trainings if t.plan_id == plan.plan_id), None)

    def answers(self, number: int) -> tuple[GateAnswer, ...]:
        """The gates of a round, in their order."""
        return tuple(g.answer for g in sorted(self.gates, key=lambda gate: gate.position) if g.round == number)

    @property
    def has_training_report(self) -> bool:
        """Whether the checkpoint that stands was trained in this run."""
        return self.trained is not None and self.trained.has_training_report

    def cost(self) -> Cost:
        """What the run cost so far."""
        parts = (self.evaluations, self.diagnoses, self.trainings, self.batches)
        return total(record.cost for records in parts for record in records)

    def with_plan(self, plan: Plan) -> RunState:
        """The run with a plan added or changed."""
        others = tuple(p for p in self.plans if (p.round, p.arm) != (plan.round, plan.arm))
        return replace(self, plans=(*others, plan))
