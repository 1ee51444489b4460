"""`mend lineage`: walks from a checkpoint back to the failures that led to it, and to the gate that judged it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.tree import Tree

from mendloop.artifacts.lineage import Node, ancestry, completed, find
from mendloop.artifacts.store import ArtifactStore
from mendloop.core.errors import InvalidEvent

ID_LENGTH = 12


def checkpoint_named(store: ArtifactStore, prefix: str) -> str:
    """The node name of the one checkpoint whose hash starts with the prefix. Raises InvalidEvent otherwise."""
    names = completed(store, f"checkpoint:{prefix.removeprefix('checkpoint:')}")
    if len(names) == 1:
        return names[0]
    known = ", ".join(name.partition(":")[2][:ID_LENGTH] for name in completed(store, "checkpoint:")[:8])
    raise InvalidEvent(f"{len(names)} checkpoints start with {prefix!r}; known are {known or 'none'}")


def walk(store: ArtifactStore, name: str) -> Iterator[tuple[int, Node]]:
    """The gate that judged the checkpoint, if any, then the checkpoint and everything that it came from."""
    gate = find(store, f"gate:{name.partition(':')[2]}")
    if gate is not None:
        yield 0, gate
    yield from ancestry(store, name)


def tree(store: ArtifactStore, name: str) -> Tree:
    """The walk as a tree for the terminal."""
    nodes = list(ancestry(store, name))
    root = Tree(describe(nodes[0][1])) if nodes else Tree(f"{name} has no lineage")
    gate = find(store, f"gate:{name.partition(':')[2]}")
    if gate is not None:
        root.add(describe(gate))
    branches = {0: root}
    for depth, node in nodes[1:]:
        branches[depth] = branches[depth - 1].add(describe(node))
    return root


def describe(node: Node) -> str:
    """A node in one line: kind, short id and its facts that fit."""
    facts = ", ".join(
        f"{key} {_short(value)}" for key, value in node.facts.items() if not isinstance(value, dict | list)
    )
    identity = node.name.partition(":")[2]
    short = "/".join(part[:ID_LENGTH] for part in identity.split("/"))
    return f"[bold]{node.kind}[/bold] [dim]{short}[/dim]  {facts}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
