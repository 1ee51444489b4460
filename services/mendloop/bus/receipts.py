"""Receipts: the outputs of a finished handler under its input's id, so that a redelivery does no work twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Protocol

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.events import Envelope


class Receipts(Protocol):
    """Where the outputs of finished handlers are kept."""

    def find(self, handler: str, event_id: str) -> Sequence[Envelope] | None:
        """Outputs of a finished handler, or None where it has not finished."""

    def store(self, handler: str, event_id: str, outputs: Sequence[Envelope]) -> None:
        """Keep the outputs before they are published."""


class StoredReceipts:
    """Receipts as documents of the artifact store, shared by all replicas on any bus."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def find(self, handler: str, event_id: str) -> Sequence[Envelope] | None:
        """Outputs of a finished handler, or None."""
        raw = self._store.get_doc(f"receipts/{handler}", event_id)
        if raw is None:
            return None
        return [
            Envelope(row["topic"], row["key"], base64.b64decode(row["value"]), row["headers"])
            for row in json.loads(raw)
        ]

    def store(self, handler: str, event_id: str, outputs: Sequence[Envelope]) -> None:
        """Keep the outputs before they are published."""
        rows = [
            {"topic": e.topic, "key": e.key, "value": base64.b64encode(e.value).decode(), "headers": e.headers}
            for e in outputs
        ]
        self._store.put_doc(f"receipts/{handler}", event_id, json.dumps(rows).encode())

    def count(self, handler: str) -> int:
        """Number of inputs that the handler finished."""
        return len(self._store.doc_names(f"receipts/{handler}"))
