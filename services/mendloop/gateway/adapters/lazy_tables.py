"""Tables of the store that load pyarrow with the first page that needs it: it more than doubles the memory of a gateway
that only shows runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.gateway.domain.outcome_lines import ExampleLine, OutcomeFilter, OutcomeLine
from mendloop.gateway.domain.paging import Page
from mendloop.gateway.ports import Tables
from mendloop.runs.parts import Batch


class LazyTables:
    """The same as StoredTables, made when it is first asked."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    @cached_property
    def _tables(self) -> Tables:
        from mendloop.gateway.adapters.outcome_pages import StoredTables

        return StoredTables(self._store)

    def outcomes(
        self, artifact: Artifact, *, baseline: Artifact | None, wanted: OutcomeFilter, limit: int, cursor: str
    ) -> Page[OutcomeLine]:
        """Outcomes, each beside the baseline's."""
        return self._tables.outcomes(artifact, baseline=baseline, wanted=wanted, limit=limit, cursor=cursor)

    def examples(self, artifact: Artifact, *, slices: Mapping[str, str], limit: int, cursor: str) -> Page[ExampleLine]:
        """Examples of a batch."""
        return self._tables.examples(artifact, slices=slices, limit=limit, cursor=cursor)

    def shifts(self, batch: Batch, *, run_id: str) -> list[dict[str, object]]:
        """What a batch shifts in the training data."""
        return self._tables.shifts(batch, run_id=run_id)

    def document(self, artifact: Artifact) -> dict[str, object]:
        """A JSON object."""
        return self._tables.document(artifact)
