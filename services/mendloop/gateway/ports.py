"""What the gateway's use cases need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from mendloop.artifacts.store import Artifact
from mendloop.bus.base import Cursor, Log
from mendloop.core.events import Envelope
from mendloop.core.recipe import Recipe
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.outcome_lines import ExampleLine, OutcomeFilter, OutcomeLine
from mendloop.gateway.domain.paging import Page
from mendloop.gateway.domain.run_lines import LetterLine, RunLine, SliceLine
from mendloop.runs.loop_metrics import Judgement
from mendloop.runs.model import RunView
from mendloop.runs.parts import Batch
from mendloop.runs.stream import StreamEvent


class Submit(Protocol):
    """Resolves a recipe and asks for the run."""

    def __call__(self, recipe: Recipe, *, run_id: str, requested_by: str) -> None:
        """Publish LoopRequested. Raises InvalidRecipe where the recipe cannot run. The same id twice is one run."""


class Documents(Protocol):
    """Small named documents that outlive the process."""

    def put_doc(self, namespace: str, name: str, data: bytes) -> None:
        """Write a document, replacing what is there."""

    def get_doc(self, namespace: str, name: str) -> bytes | None:
        """A document, or None."""


class Runs(Protocol):
    """Runs as they stand, kept up to date from the log by one thread."""

    @property
    def cursor(self) -> Cursor:
        """The cursor behind everything that was read."""

    @property
    def trouble(self) -> str:
        """Why what was read is not kept yet; empty where it is."""

    def step(self) -> tuple[list[StreamEvent], bool]:
        """Read one page; returns it, and whether the log may hold more. Raises Retryable where it cannot."""

    def view(self, run_id: str) -> RunView | None:
        """The run, or None where no event of it is kept. Raises Retryable where that cannot be told now."""

    def dropped_counts(self) -> dict[str, int]:
        """Events left out, by reason."""


class Figures(Protocol):
    """What metrics show of runs. Raises Retryable where it cannot be read now."""

    def views(self, *, ended_after: datetime) -> Sequence[RunView]:
        """Views of all runs that go on or ended after a time."""

    def judgement(self) -> Judgement:
        """What became of verdicts and of promoted checkpoints."""


class RunPages(Protocol):
    """Pages of what is kept of runs. Raises Retryable where it cannot be read now, ValueError for a foreign cursor."""

    def has(self, run_id: str) -> bool:
        """Whether any event of the run is kept."""

    def list_runs(
        self, *, asker: Principal, limit: int, cursor: str, state: str, outcome: str, q: str
    ) -> Page[RunLine]:
        """Runs that the asker may see, newest first."""

    def list_slices(
        self, run_id: str, *, limit: int, cursor: str, q: str, cause: str, is_weak: bool | None
    ) -> Page[SliceLine]:
        """Slices of a run, weak ones first."""

    def slice_line(self, run_id: str, slice_id: str) -> SliceLine | None:
        """One slice of a run, or None."""

    def list_letters(self, *, limit: int, cursor: str, run_id: str) -> Page[LetterLine]:
        """Dead letters, newest first; of all runs where run_id is empty."""

    def events_of(
        self, run_id: str, *, types: Sequence[str], round: int | None = None, slice_id: str | None = None
    ) -> list[tuple[Envelope, Message]]:
        """A run's events of some types, oldest first."""


class RunLogs(Protocol):
    """Each run's events as a log of its own. Raises Retryable where it cannot be read now."""

    def start(self, run_id: str, *, cursor: str) -> str:
        """The cursor, moved behind what was committed before the run began. Raises ValueError for no cursor."""

    def of(self, run_id: str) -> Log:
        """The run's log."""


class Letters(Protocol):
    """Dead letters that can be given back."""

    def replay(self, letter_id: str, *, by: str, reason: str) -> LetterLine | None:
        """Give the event back to who refused it, once; None for an unknown letter."""


class Tables(Protocol):
    """Rows of open artifacts. Raises CorruptArtifact, Retryable, TooLarge, and ValueError for a foreign cursor."""

    def outcomes(
        self, artifact: Artifact, *, baseline: Artifact | None, wanted: OutcomeFilter, limit: int, cursor: str
    ) -> Page[OutcomeLine]:
        """Outcomes, each beside the baseline's."""

    def examples(self, artifact: Artifact, *, slices: Mapping[str, str], limit: int, cursor: str) -> Page[ExampleLine]:
        """Examples of a batch; slices maps a slice in words to its id."""

    def shifts(self, batch: Batch, *, run_id: str) -> list[dict[str, object]]:
        """Values of each axis whose share of the training data changes most; empty where nobody recorded it."""

    def document(self, artifact: Artifact) -> dict[str, object]:
        """A JSON object."""
