"""What the gateway answers with, typed. `document` holds the whole JSON where a type shows a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from google.protobuf.message import Message

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A proportion with its exact 95 % interval; value is None where nothing was measured."""

    n: int
    correct: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """correct / n."""
        return self.correct / self.n if self.n else None

    @classmethod
    def of(cls, document: Document) -> Self:
        """The accuracy of a document."""
        return cls(document["n"], document["correct"], document["low"], document["high"])


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, tokens and estimated floating-point operations."""

    wall_s: float
    gpu_s: float
    token_count: int
    flops: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A weak slice."""

    slice_id: str
    slice: str
    accuracy: Accuracy
    threshold: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a slice is weak, and how sure the diagnosis is (0 to 1)."""

    slice_id: str
    slice: str
    cause: str
    confidence: float
    summary: str


@dataclass(frozen=True, slots=True)
class Round:
    """A round of one arm ("" is the main one). waiting_plan_id names a plan whose approval is asked for."""

    number: int
    arm: str
    accuracy: Accuracy | None
    failures: tuple[Failure, ...]
    verdicts: tuple[Verdict, ...]
    promoted: bool | None
    waiting_plan_id: str
    waits_for_review: bool

    @classmethod
    def of(cls, document: Document) -> Self:
        """The round of a document."""
        evaluation, decision = document["evaluation"], document["decision"]
        asked = [document[kind] for kind in ("review", "approval") if document[kind] and not document[kind]["answer"]]
        return cls(
            document["round"],
            document["arm"],
            Accuracy.of(evaluation["accuracy"]) if evaluation else None,
            tuple(_failure(part) for part in document["failures"]),
            tuple(_verdict(part) for part in document["diagnoses"]),
            decision["promoted"] if decision else None,
            asked[0]["question"]["plan_id"] if asked else "",
            bool(asked) and asked[0] is document["review"],
        )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as a list shows it."""

    run_id: str
    recipe: str
    state: str
    stage: str
    round: int
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    outcome: str
    summary: str
    dead_letter_count: int
    cost: Cost

    @property
    def is_finished(self) -> bool:
        """Whether it is over."""
        return self.state == "finished"

    @classmethod
    def of(cls, document: Document) -> Self:
        """The run of a document."""
        return cls(**_summary(document))


@dataclass(frozen=True, slots=True)
class Run(RunSummary):
    """A run with its rounds."""

    rounds: tuple[Round, ...] = ()
    document: Document = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> Self:
        """The run of a whole document."""
        return cls(**_summary(document), rounds=tuple(map(Round.of, document["rounds"])), document=document)

    @property
    def waiting(self) -> Round | None:
        """The round whose plan waits for a person."""
        return next((part for part in reversed(self.rounds) if part.waiting_plan_id), None)


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, newest first; next_cursor is empty on the last page."""

    runs: tuple[RunSummary, ...]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class Event:
    """A committed event. cursor is the place behind it: `events(after=cursor)` goes on there.

    type is the CloudEvents type without mendloop.v1.; message is its JSON, in which 64-bit integers are strings.
    """

    cursor: str
    type: str
    headers: Mapping[str, str]
    message: Document

    @property
    def event_id(self) -> str:
        """The CloudEvents id, stable over redeliveries."""
        return self.headers.get("ce_id", "")

    @property
    def run_id(self) -> str:
        """The run; empty where the event belongs to none."""
        position = self.message.get("position")
        return str(position["run_id"]) if position else ""

    def decode(self) -> Message:
        """The protobuf message, e.g. mendloop.v1.evaluation_pb2.EvalFailed."""
        from google.protobuf.json_format import ParseDict

        from mendloop.core.contracts import TYPE_PREFIX, contract_of_type

        return ParseDict(dict(self.message), contract_of_type(TYPE_PREFIX + self.type).message())


def _failure(document: Document) -> Failure:
    part = document["slice"]
    return Failure(part["slice_id"], part["name"], Accuracy.of(document["accuracy"]), document["threshold"])


def _verdict(document: Document) -> Verdict:
    part = document["slice"]
    return Verdict(part["slice_id"], part["name"], document["cause"], document["confidence"], document["summary"])


def _summary(document: Document) -> dict[str, Any]:
    cost = document["cost"]
    return {
        "run_id": document["run_id"],
        "recipe": document["recipe"],
        "state": document["state"],
        "stage": document["stage"],
        "round": document["round"],
        "started_at": time_of(document["started_at"]),
        "finished_at": time_of(document["finished_at"]),
        "updated_at": time_of(document["updated_at"]),
        "outcome": document["outcome"],
        "summary": document["summary"],
        "dead_letter_count": document["dead_letter_count"],
        "cost": Cost(cost["wall_s"], cost["gpu_s"], cost["token_count"], cost["flops"]),
    }


def time_of(text: str | None) -> datetime | None:
    """A time of JSON."""
    return datetime.fromisoformat(text) if text else None
