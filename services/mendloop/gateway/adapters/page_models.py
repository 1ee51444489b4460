"""Answers of the routes that people browse a run with, as OpenAPI describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import ConfigDict, Field

from mendloop.gateway.adapters.run_models import Body, Cost, Text

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page.")]
Cursor = Annotated[str, Query(max_length=2000, description="next_cursor of the page before.")]
Search = Annotated[str, Query(max_length=200, description="Words to look for, in any case.")]
Arm = Annotated[str, Query(max_length=200, description="Control arm; empty: the main one.")]
NextCursor = Annotated[str, Field(description="Cursor of the next page; empty on the last.")]
Total = Annotated[int, Field(description="Rows on all pages.")]


class TrendPoint(Body):
    """Accuracy of a slice in a round, with its exact 95 % interval."""

    round: int
    arm: str
    accuracy: float | None
    n: int
    correct: int
    low: float
    high: float
    is_weak: bool


class Slice(Body):
    """One slice over the rounds of a run."""

    slice_id: str
    definition: str
    is_weak: bool = Field(description="Whether any evaluation of the run called it weak.")
    is_weak_now: bool = Field(description="Whether the newest evaluation that measured it called it weak.")
    cause: str = Field(description="The newest verdict, e.g. EOS_MASKED; empty where there is none.")
    confidence: float | None
    trend: list[TrendPoint]


class SlicePage(Body):
    """Slices, weak ones first, then by definition."""

    slices: list[Slice]
    next_cursor: NextCursor
    total: Total


class EvidenceRow(Body):
    """A probe's measurement with its 95 % interval; n is 0 where it could not run."""

    probe: str
    measure: str
    value: float
    low: float
    high: float
    n: int
    meaning: str


class CauseScore(Body):
    """A cause that was considered."""

    cause: str
    score: float


class VerdictLine(Body):
    """What the diagnosis says."""

    round: int
    arm: str
    slice_id: str
    definition: str
    cause: str
    family: str
    confidence: float
    also: list[str] = Field(description="Further causes that the evidence shows.")
    summary: str
    failed_count: int
    evaluation_id: str
    at: datetime


class Intervention(Body):
    """What the diagnosis proposes."""

    kind: str
    fixes: list[str]
    rationale: str


class AttachmentBody(Body):
    """What a figure cannot hold: a heatmap, examples, a table; or unreadable, with the reason in problem."""

    kind: str
    name: str
    probe: str
    document: dict[str, Any] | None
    problem: str


class DiagnosisBody(Body):
    """A verdict with everything that it rests on."""

    verdict: VerdictLine
    causes: list[CauseScore]
    evidence: list[EvidenceRow]
    interventions: list[Intervention]
    attachments: list[AttachmentBody]


class BeforeBody(Body):
    """The baseline's answer to the same item."""

    output: str
    score: float


class OutcomeBody(Body):
    """One item's outcome."""

    item_id: str
    repeat_index: int
    prompt: str
    target: str
    output: str
    score: float
    is_right: bool
    stop_reason: str
    failure: str = Field(description="Why it is not right, in words; empty where it is.")
    axes: dict[str, list[str]]
    before: BeforeBody | None
    cut: list[str] = Field(description="Texts that are longer than what is shown.")


class MeasuredBody(Body):
    """An evaluation of a run."""

    round: int
    arm: str
    evaluation_id: str
    checkpoint: str


class OutcomePage(Body):
    """Outcomes in the order of the evaluation."""

    outcomes: list[OutcomeBody]
    next_cursor: NextCursor
    total: Total
    measured: MeasuredBody
    compared_with: MeasuredBody | None = Field(description="The baseline's evaluation; null where the run has none.")


class FunnelRow(Body):
    """What was dropped at a stage and why; a count of 0 is a note."""

    stage: str
    reason: str
    count: int


class ExampleBody(Body):
    """A training example; rejected is the worse answer of a preference, else empty."""

    prompt: str
    completion: str
    rejected: str
    source: str
    slice_id: str


class BatchBody(Body):
    """The batch that training may use."""

    round: int
    arm: str
    artifact: str = Field(description="Its SHA-256; empty where it holds nothing.")
    example_count: int
    awaits_review: bool
    is_reviewed: bool
    cost: Cost


class BatchPageBody(Body):
    """A batch, its ledger of drops, what it shifts in the training data, and a page of its examples."""

    batch: BatchBody
    funnel: list[FunnelRow]
    shifts: list[dict[str, Any]]
    examples: list[ExampleBody]
    next_cursor: NextCursor
    total: Total


class NodeBody(Body):
    """Something that the run made."""

    id: str = Field(description="KIND:ID, as `mend lineage` takes it.")
    kind: str
    label: str
    round: int
    arm: str


class EdgeBody(Body):
    """`to` came of `from`."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", frozen=True)
    source: str = Field(alias="from")
    target: str = Field(alias="to")


class LineageBody(Body):
    """A run's lineage as a graph without cycles."""

    nodes: list[NodeBody]
    edges: list[EdgeBody]


class LetterBody(Body):
    """An event that a service refused for good."""

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


class LetterPage(Body):
    """Dead letters, newest first."""

    dead_letters: list[LetterBody]
    next_cursor: NextCursor
    total: Total


class Replay(Body):
    """Why an event is given back, and by whom; both may be empty."""

    reason: Text = ""
    by: Text = ""
