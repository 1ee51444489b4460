"""Where a batch comes from, as JSON values: the content of the card and of lineage.json. Knows lineage; knows no page.

What the lineage does not say is None, never made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mendloop.artifacts.lineage import Node
from mendloop.artifacts.store import ArtifactStore
from mendloop.exchange.batches import StoredBatch, ancestors, round_of

FORMAT = "mendloop-batch-lineage-1"
LICENSE = "unknown"
"""Nobody told the loop under which terms the sources stand: whoever publishes the data has to find out."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Provenance:
    """A batch's history; facts are the batch's own."""

    run_id: str
    round: int | None
    plan: Document | None
    verdicts: tuple[Document, ...]
    facts: Mapping[str, Any]
    original: str
    """Hash of the batch that people reviewed into this one; empty where nobody did."""
    audit: Mapping[str, Any]
    """Of the batch as it was made, before any review; empty where the lineage has none."""
    nodes: tuple[Node, ...]

    @property
    def document(self) -> Document:
        """Everything, with the nodes of the walk."""
        return {
            "format": FORMAT,
            "license": LICENSE,
            "run_id": self.run_id,
            "round": self.round,
            "plan": self.plan,
            "verdicts": list(self.verdicts),
            "reviewed_from": self.original or None,
            "batch": dict(self.facts),
            "audit": dict(self.audit),
            "nodes": [asdict(node) for node in self.nodes],
        }


def provenance_of(store: ArtifactStore, batch: StoredBatch) -> Provenance:
    """The history of a batch, as far as the store has it."""
    nodes = ancestors(store, batch.node)
    known = {node.name: node for node in nodes}
    plan = next((node for node in nodes if node.kind == "plan"), None)
    asked = [known[name] for name in plan.inputs if name in known] if plan else []
    original = next((name.partition(":")[2] for name in batch.node.inputs if name.startswith("batch:")), "")
    return Provenance(
        run_id=batch.node.run_id,
        round=round_of(store, batch.node),
        plan={"plan_id": plan.name.partition(":")[2], **plan.facts} if plan else None,
        verdicts=tuple(_verdict(node, known=known) for node in asked if node.kind == "diagnosis"),
        facts=batch.node.facts,
        original=original,
        audit=_audit(batch.node, known.get(f"batch:{original}")),
        nodes=tuple(nodes),
    )


def _verdict(diagnosis: Node, *, known: Mapping[str, Node]) -> Document:
    """A verdict with the failure that it explains: slice, items and right ones."""
    failure = next((known[name] for name in diagnosis.inputs if name in known), None)
    facts: Mapping[str, Any] = failure.facts if failure else {}
    return {
        "diagnosis": diagnosis.name.partition(":")[2],
        "slice": facts.get("slice"),
        "cause": diagnosis.facts.get("cause"),
        "confidence": diagnosis.facts.get("confidence"),
        "n": facts.get("n"),
        "correct": facts.get("correct"),
    }


def _audit(*nodes: Node | None) -> Mapping[str, Any]:
    found = (node.facts.get("audit") for node in nodes if node is not None)
    return next((audit for audit in found if isinstance(audit, Mapping)), {})
