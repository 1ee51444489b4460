"""Lineage: which failure led to which diagnosis, plan, batch, checkpoint and gate decision.

A node is a JSON artifact with a name; its inputs are names of other nodes. Knows names and facts; knows no event.
Two runs may make the same bytes, so a name is kept once for each run; a walk stays in the run where it began.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from urllib.parse import quote

from mendloop.artifacts.store import Artifact, ArtifactStore

NAMESPACE = "lineage"
MEDIA_TYPE = "application/vnd.mendloop.lineage+json"
KINDS = ("checkpoint", "evaluation", "failure", "diagnosis", "plan", "batch", "gate", "comparison")


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a run. The name is KIND:ID, e.g. checkpoint:<sha256> or failure:<evaluation id>/<slice id>."""

    name: str
    run_id: str
    inputs: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.name.partition(":")[2]:
            raise ValueError(f"lineage node {self.name!r} is not KIND:ID with one of {', '.join(KINDS)}")

    @property
    def kind(self) -> str:
        """What the node is."""
        return self.name.partition(":")[0]


def record(store: ArtifactStore, node: Node) -> Artifact:
    """Keep a node under its name; the same node again changes nothing. Returns its manifest."""
    data = json.dumps(asdict(node), sort_keys=True).encode()
    store.put_doc(_namespace(node.run_id), node.name, data)
    store.put_doc(NAMESPACE, node.name, data)
    return store.put(data, media_type=MEDIA_TYPE)


def find(store: ArtifactStore, name: str, *, run_id: str | None = None) -> Node | None:
    """The node of a name, of that run where it has one, else the one that was recorded last; or None."""
    raw = store.get_doc(_namespace(run_id), name) if run_id is not None else None
    if raw is None:
        raw = store.get_doc(NAMESPACE, name)
    if raw is None:
        return None
    document = json.loads(raw)
    return Node(document["name"], document["run_id"], tuple(document["inputs"]), document["facts"])


def ancestry(store: ArtifactStore, name: str) -> Iterator[tuple[int, Node]]:
    """The node and everything that it came from, depth first with the depth; each node once."""
    start = find(store, name)
    run_id = start.run_id if start else None
    seen: set[str] = set()
    stack = [(0, name)]
    while stack:
        depth, current = stack.pop()
        node = find(store, current, run_id=run_id)
        if node is None or current in seen:
            continue
        seen.add(current)
        yield depth, node
        stack += [(depth + 1, parent) for parent in reversed(node.inputs)]


def completed(store: ArtifactStore, prefix: str) -> Sequence[str]:
    """Names of the nodes that start with the prefix, so that a person may give a short hash."""
    return [name for name in store.doc_names(NAMESPACE) if name.startswith(prefix)]


def of_run(store: ArtifactStore, run_id: str, *, kind: str) -> Sequence[Node]:
    """The nodes of one kind that a run recorded, by name; empty for a run that recorded none."""
    names = (name for name in store.doc_names(_namespace(run_id)) if name.startswith(f"{kind}:"))
    return [node for name in names if (node := find(store, name, run_id=run_id)) is not None]


def _namespace(run_id: str) -> str:
    return f"{NAMESPACE}-of/run-{quote(run_id, safe='')}"
