"""Finds a batch by its hash or by its run, and gives each of its rows a name that survives a labelling tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.artifacts import lineage
from mendloop.artifacts.lineage import Node
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import MEDIA_TYPE, get_rows, record_of
from mendloop.core.errors import Permanent
from mendloop.core.records import Example, Preference
from mendloop.exchange.rows import PairRow, Row

SHORT = 12
MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch with its lineage node: rows of examples, or pairs, in the order in which training reads them."""

    artifact: Artifact
    node: Node
    rows: tuple[Row, ...]
    pairs: tuple[PairRow, ...] = ()
    """Rows of a batch of preferences, which has no examples."""

    @property
    def short(self) -> str:
        """The beginning of its hash, as the command line shows it."""
        return self.artifact.sha256[:SHORT]

    @property
    def row_count(self) -> int:
        """Rows of either kind."""
        return len(self.rows) + len(self.pairs)


def find_batch(store: ArtifactStore, name: str, *, round: int | None = None) -> StoredBatch:
    """The batch of a hash (or its beginning) or of a run: of the run's newest round, or of the round asked for.

    A control arm's batch is found by its hash alone.
    Raises Permanent where there is none or more than one, with those that there are.
    """
    names = lineage.completed(store, f"batch:{name.removeprefix('batch:')}")
    if len(names) == 1:
        node = lineage.find(store, names[0])
        assert node is not None, f"{names[0]} is listed and cannot be found"
        return _opened(store, node)
    if names:
        raise Permanent(f"{len(names)} batches start with {name!r}; give more of the hash: {_listed(names)}")
    return _opened(store, _of_run(store, name, round=round))


def round_of(store: ArtifactStore, node: Node) -> int | None:
    """The round whose plan led to a node, or None where its lineage names no plan."""
    for parent in ancestors(store, node):
        found = parent.facts.get("round")
        if parent.kind == "plan" and isinstance(found, int):
            return found
    return None


def _of_run(store: ArtifactStore, run_id: str, *, round: int | None) -> Node:
    nodes = [node for node in lineage.of_run(store, run_id, kind="batch") if "control" not in node.facts]
    if not nodes:
        known = _listed(lineage.completed(store, "batch:"))
        raise Permanent(f"no batch starts with {run_id!r} and no run of this name made one; known batches are {known}")
    rounds = {node.name: round_of(store, node) for node in nodes}
    wanted = round if round is not None else max((n for n in rounds.values() if n is not None), default=None)
    found = [node for node in nodes if rounds[node.name] == wanted]
    if len(found) == 1:
        return found[0]
    if not found:
        made = ", ".join(str(n) for n in sorted({n for n in rounds.values() if n is not None})) or "none"
        raise Permanent(f"run {run_id!r} made no batch in round {wanted}; rounds with one are {made}")
    choices = "; ".join(f"{_short(node.name)} ({_in_words(node)})" for node in found)
    raise Permanent(f"run {run_id!r} has {len(found)} batches in round {wanted}: name one by its hash: {choices}")


def _opened(store: ArtifactStore, node: Node) -> StoredBatch:
    sha256 = node.name.partition(":")[2]
    artifact = store.find(sha256, media_type=MEDIA_TYPE)
    if artifact is None:
        raise Permanent(f"batch {sha256[:SHORT]} is in the lineage, but its rows are not in this store")
    short = sha256[:SHORT]
    if record_of(store, artifact) == Preference.__name__:
        preferences = get_rows(store, artifact, kind=Preference)
        pairs = tuple(PairRow(_row_id(short, place), pair) for place, pair in enumerate(preferences))
        return StoredBatch(artifact, node, (), pairs)
    examples = get_rows(store, artifact, kind=Example)
    return StoredBatch(artifact, node, tuple(Row(_row_id(short, place), row) for place, row in enumerate(examples)))


def ancestors(store: ArtifactStore, node: Node) -> list[Node]:
    """The node and everything that it came from in its run, depth first, each once.

    Unlike lineage.ancestry it starts from this very node: another run may have recorded one of the same name since.
    """
    found: dict[str, Node] = {}
    stack = [node]
    while stack:
        current = stack.pop()
        if current.name in found:
            continue
        found[current.name] = current
        parents = (lineage.find(store, name, run_id=node.run_id) for name in reversed(current.inputs))
        stack += [parent for parent in parents if parent is not None]
    return list(found.values())


def _row_id(short: str, place: int) -> str:
    return f"{short}-{place:05d}"


def _in_words(node: Node) -> str:
    by = node.facts.get("reviewed_by")
    return f"{node.facts.get('examples', '?')} rows" + (f", reviewed by {by}" if by is not None else ", as it was made")


def _short(name: str) -> str:
    return name.partition(":")[2][:SHORT]


def _listed(names: Sequence[str]) -> str:
    listed = [_short(name) for name in names]
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return (", ".join(listed[:MOST_LISTED]) + more) or "none"
