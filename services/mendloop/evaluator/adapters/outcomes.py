"""Outcomes of an evaluation as Parquet, found again through documents. Knows the artifact store; knows no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows, put_rows
from mendloop.core.records import Outcome
from mendloop.evaluator.domain.scoring import Cost
from mendloop.evaluator.ports import Scored


class StoredOutcomes:
    """An OutcomeStore over one artifact store, in the documents shards/<evaluation id>/<part>."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def find(self, evaluation_id: str, part: str) -> Scored | None:
        """What is kept under the name, or None."""
        raw = self._store.get_doc(_namespace(evaluation_id), part)
        if raw is None:
            return None
        document = json.loads(raw)
        return Scored(Artifact(**document["outcomes"]), Cost(**document["cost"]))

    def keep(self, evaluation_id: str, part: str, *, outcomes: Sequence[Outcome], cost: Cost) -> Scored:
        """Keep outcomes under a name. The document is written last: it stands for complete rows."""
        artifact = put_rows(self._store, outcomes, kind=Outcome)
        document = {"outcomes": asdict(artifact), "cost": cost._asdict(), "item_count": len(outcomes)}
        self._store.put_doc(_namespace(evaluation_id), part, json.dumps(document, sort_keys=True).encode())
        return Scored(artifact, cost)

    def rows(self, scored: Scored) -> list[Outcome]:
        """The outcomes; raises CorruptArtifact where their bytes changed."""
        return get_rows(self._store, scored.outcomes, kind=Outcome)


def _namespace(evaluation_id: str) -> str:
    return f"shards/{evaluation_id}"
