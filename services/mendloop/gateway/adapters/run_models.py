"""Bodies and answers of the routes over runs, as OpenAPI describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mendloop.gateway.use_cases import MAX_TEXT_LENGTH
from mendloop.runs.view import STATES

State = Literal[STATES]  # type: ignore[valid-type]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]


class Body(BaseModel):
    """What all of them have in common; answers are read off the values of the same names."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


class Cancel(Body):
    """Why a run is stopped or steered, and by whom; both may be empty."""

    reason: Text = ""
    by: Text = ""


class Approval(Body):
    """A person's answer about a plan that waits, or about the batch of one."""

    plan_id: str = Field(min_length=1, max_length=200, description="Plan of the question, from the run's round.")
    approved: bool = Field(strict=True, description="True to go on, false to drop the plan.")
    reason: Text = Field("", description="Why, in the person's words.")
    by: Text = Field("", description="Who decided.")
    review: bool = Field(False, strict=True, description="True answers the review of the plan's batch: all or nothing.")


class Cost(Body):
    """Seconds, tokens and estimated floating-point operations."""

    wall_s: float
    gpu_s: float
    token_count: int
    flops: float


class RunSummary(Body):
    """A run as a list shows it."""

    run_id: str
    recipe: str = Field(description="Name of the recipe; empty where it could not be read.")
    task: str = Field(description="Task family of the recipe.")
    state: State
    stage: str = Field(description="The stage that works now; empty where none does.")
    round: int
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    outcome: str = Field(description="How it ended, e.g. promoted; empty while it goes on.")
    summary: str = Field(description="The controller's sentence on how it ended.")
    requested_by: str
    accuracy_before: float | None = Field(description="Of the base on all open items.")
    accuracy_after: float | None = Field(description="Of the checkpoint promoted last, else of the one judged last.")
    dead_letter_count: int
    cost: Cost


class RunPage(Body):
    """Runs, newest first."""

    runs: list[RunSummary]
    next_cursor: str = Field(description="Cursor of the next page; empty on the last.")
    total: int = Field(description="Runs on all pages.")
