"""Keeps a review: the batch that is left, what was decided row by row, and both in the lineage.

Knows stores; knows neither files nor events. The same review again gives the same artifacts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.records import Example
from mendloop.exchange.batches import StoredBatch
from mendloop.exchange.review import Decided, Review

STAGE = "review"
"""The stage under which people's drops stand in the ledger, after the funnel's."""
MEDIA_TYPE = "application/vnd.mendloop.review+json"


@dataclass(frozen=True, slots=True)
class ReviewedBatch:
    """What is left of a batch. drops holds the funnel's and people's."""

    batch: Artifact
    manifest: Artifact
    example_count: int
    drops: tuple[Mapping[str, Any], ...]


def keep_review(store: ArtifactStore, batch: StoredBatch, review: Review, *, by: str = "") -> ReviewedBatch:
    """Store what people left of a batch. by names the reviewers where the annotations do not."""
    examples = review.examples
    artifact = put_rows(store, examples, kind=Example)
    decisions = store.put(_document(batch, review), media_type=MEDIA_TYPE)
    drops = (*_drops_before(batch.node), *_drops(review))
    facts = {
        "examples": len(examples),
        "reviewed_by": ", ".join(review.annotators) or by,
        "review": review.counts,
        "decisions": decisions.sha256,
        "sources": dict(sorted(Counter(example.source for example in examples).items())),
        "drops": list(drops),
    }
    manifest = record(store, _node(batch, artifact, facts))
    return ReviewedBatch(artifact, manifest, len(examples), drops)


def _node(batch: StoredBatch, left: Artifact, facts: Mapping[str, Any]) -> Node:
    """Where every row was accepted, the bytes and so the name are the same: then the node keeps its own history."""
    if left.sha256 == batch.artifact.sha256:
        return Node(batch.node.name, batch.node.run_id, batch.node.inputs, {**batch.node.facts, **facts})
    return Node(f"batch:{left.sha256}", batch.node.run_id, (batch.node.name,), facts)


def _drops_before(node: Node) -> list[Mapping[str, Any]]:
    """The funnel's drops; an earlier review of the same batch is replaced, not added to."""
    found = node.facts.get("drops")
    return [row for row in found if row["stage"] != STAGE] if isinstance(found, list) else []


def _drops(review: Review) -> list[Mapping[str, Any]]:
    return [{"stage": STAGE, "reason": reason, "count": count} for reason, count in review.dropped.items()]


def _document(batch: StoredBatch, review: Review) -> bytes:
    rows = [_row(decided) for decided in review.rows]
    return json.dumps({"batch": batch.artifact.sha256, "rows": rows}, ensure_ascii=False, sort_keys=True).encode()


def _row(decided: Decided) -> dict[str, Any]:
    example = decided.example
    values = asdict(decided) | {"annotators": list(decided.annotators)}
    return values | {"example": {"prompt": example.prompt, "completion": example.completion} if example else None}
