"""A batch as a reader checks it: drops by stage and reason, what was done to the corpus, what the training data shifts.

Knows the batch's lineage node; knows no page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast

from mendloop.artifacts.lineage import find
from mendloop.artifacts.store import ArtifactStore
from mendloop.runs.parts import Batch

SHIFTS_PER_AXIS = 2


def batch_document(batch: Batch, *, run_id: str, store: ArtifactStore) -> dict[str, Any]:
    """As JSON values. `shifts` holds the values of each axis whose share changes most; empty without lineage."""
    node = find(store, f"batch:{batch.artifact.sha256}", run_id=run_id) if batch.artifact is not None else None
    facts = cast(Mapping[str, Any], node.facts) if node is not None else {}
    audit = facts.get("audit", {})
    return {
        **counts_document(batch),
        "awaits_review": batch.awaits_review,
        "shifts": list(_shifts(audit.get("axes", {}))),
        "answers": audit.get("answers", {}),
        "corpus": {name: value for name, value in facts.get("corpus", {}).items() if name != "sha256"},
    }


def counts_document(batch: Batch) -> dict[str, Any]:
    """How many examples it has, and what was dropped."""
    return {"example_count": batch.example_count, "drops": [asdict(drop) for drop in batch.drops]}


def _shifts(axes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for axis in sorted(axes):
        rows = sorted(axes[axis]["values"].items(), key=lambda row: (-_shift(row[1]), row[0]))
        for value, shares in rows[:SHIFTS_PER_AXIS]:
            yield {"axis": axis, "value": value, **shares}


def _shift(shares: Mapping[str, float]) -> float:
    return round(abs(shares["after"] - shares["before"]), 9)
