"""Owns a hierarchy of items by what they are about, for items without axes: nodes become values of the axis `cluster`.

Knows vectors and texts; knows no score, so that no test of a node is spoilt by how it was found. The same items give
the same nodes and names, in any order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendloop.axes.annotate import CLUSTER
from mendloop.axes.hierarchy import Cut

AXIS = CLUSTER
"""The axis whose values are nodes. An item has the values of every node on its path, so a slice may be any node."""
WORD = re.compile(r"[^\W_]+|[^\w\s]")
NAME_TERMS = 3
MOST_ROUNDS = 20

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Node:
    """A node below the root: `path` is the way from the root, one digit a branch; `items` are row numbers."""

    path: str
    name: str
    items: tuple[int, ...]

    @property
    def value(self) -> str:
        """The node as an axis value, e.g. `011 truth, tells the`."""
        return f"{self.path} {self.name}".strip()


class Tree(NamedTuple):
    """Nodes below the root, from wide to narrow, and the cuts that made them."""

    nodes: tuple[Node, ...]
    cuts: tuple[Cut, ...]


def hierarchy_of(vectors: Vectors, texts: Sequence[str], *, min_items: int, max_depth: int = 12) -> tuple[Node, ...]:
    """The nodes of tree_of."""
    return tree_of(vectors, texts, min_items=min_items, max_depth=max_depth).nodes


def tree_of(vectors: Vectors, texts: Sequence[str], *, min_items: int, max_depth: int = 12) -> Tree:
    """Every node below the root that holds min_items or more, and every cut.

    Divisive: each node is cut in two by 2-means along the line between the halves' centres (bisecting k-means:
    Steinbach, Karypis & Kumar 2000; the first line is the node's first principal direction: Boley 1998, PDDP), at the
    cut with the least squared distance that leaves both halves min_items. Costs (items x dimensions x depth), so that
    100,000 items fit where a full distance matrix would take 80 GB.
    """
    if len(vectors) != len(texts):
        raise ValueError(f"{len(vectors)} vectors for {len(texts)} texts; one each is needed")
    if min_items < 1:
        raise ValueError(f"min_items is {min_items}; a node needs an item")
    order = np.array(sorted(range(len(texts)), key=lambda i: (texts[i], vectors[i].tobytes())), dtype=np.intp)
    terms = [_terms(text) for text in texts]
    nodes: list[Node] = []
    cuts: list[Cut] = []
    level = [("", order)]
    for _ in range(max_depth):
        following = []
        for path, rows in level:
            halves = _halves(vectors[rows], min_items=min_items)
            if halves is None:
                continue
            cuts.append(Cut(path, halves.line, halves.at))
            parts = [rows[halves.sides == side] for side in (0, 1)]
            for side, part in enumerate(parts):
                name = _name(terms, part, beside=parts[1 - side])
                nodes.append(Node(f"{path}{side}", name, tuple(sorted(part.tolist()))))
                following.append((f"{path}{side}", part))
        level = following
    return Tree(tuple(nodes), tuple(cuts))


def values_of(nodes: Sequence[Node], *, item_count: int) -> list[tuple[str, ...]]:
    """Each item's values on the axis, from wide to narrow; none where the root could not be cut."""
    values: list[list[str]] = [[] for _ in range(item_count)]
    for node in nodes:
        for row in node.items:
            values[row].append(node.value)
    return [tuple(row) for row in values]


def nearest(vectors: Vectors, *, among: Vectors) -> NDArray[np.intp]:
    """For each row the most similar row of `among`: how an item that played no part in the hierarchy joins it."""
    found = [np.argmax(vectors[start : start + 1024] @ among.T, axis=1) for start in range(0, len(vectors), 1024)]
    return np.concatenate([np.zeros(0, dtype=np.intp), *found])


class _Halves(NamedTuple):
    """0 or 1 for each row, and what tells them: a vector beyond `at` on the line is on side 1."""

    sides: NDArray[np.int8]
    line: NDArray[np.float64]
    at: float


def _halves(vectors: Vectors, *, min_items: int) -> _Halves | None:
    """None where there are too few rows or nothing tells them apart."""
    if len(vectors) < 2 * min_items:
        return None
    rows = vectors.astype(np.float64)
    middle = rows.mean(axis=0)
    rows -= middle
    line = _principal(rows)
    halves: NDArray[np.int8] | None = None
    used = line
    for _ in range(MOST_ROUNDS):
        following = _cut(rows @ line, min_items=min_items)
        if following is None or (halves is not None and bool((following == halves).all())):
            break
        halves, used = following, line
        line = rows[halves == 1].mean(axis=0) - rows[halves == 0].mean(axis=0)
    if halves is None:
        return None
    places = rows @ used
    between = (float(places[halves == 0].max()) + float(places[halves == 1].min())) / 2
    return _Halves(halves, used, between + float(middle @ used))


def _principal(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first principal direction by power iteration, from the row that lies farthest out."""
    line: NDArray[np.float64] = rows[int(np.argmax((rows**2).sum(axis=1)))]
    for _ in range(MOST_ROUNDS):
        line = rows.T @ (rows @ line)
        length = float(np.linalg.norm(line))
        if length == 0:
            return line
        line = line / length
    sign = 1.0 if line[int(np.argmax(np.abs(line)))] > 0 else -1.0  # a direction has no sign of its own
    return sign * line


def _cut(places: NDArray[np.float64], *, min_items: int) -> NDArray[np.int8] | None:
    """The cut of places on a line that leaves the least squared distance within the parts; None where all are equal."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    n = len(places)
    sizes = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    between = sums**2 / sizes + (ordered.sum() - sums) ** 2 / (n - sizes)
    # rows with the same text must not be torn apart by their order
    is_allowed = (sizes >= min_items) & (n - sizes >= min_items) & (np.diff(ordered) > 1e-9)
    if not is_allowed.any():
        return None
    size = int(np.argmax(np.where(is_allowed, between, -np.inf))) + 1
    halves = np.zeros(n, dtype=np.int8)
    halves[order[size:]] = 1
    return halves


def _terms(text: str) -> frozenset[str]:
    words = WORD.findall(text.lower())
    return frozenset((*words, *(f"{a} {b}" for a, b in pairwise(words))))


def _name(terms: Sequence[frozenset[str]], rows: NDArray[np.intp], *, beside: NDArray[np.intp]) -> str:
    """The terms that tell the node from its sibling best, one-in-both skipped.

    Class-based TF-IDF of two classes (Grootendorst 2022, arXiv 2203.05794): the share of the node's items that have the
    term, times how much rarer it is beside.
    """
    ours, theirs = (Counter(term for row in part.tolist() for term in terms[row]) for part in (rows, beside))
    scored = sorted(
        ((_distinctness(n / len(rows), theirs[term] / len(beside)), term) for term, n in ours.items()),
        key=lambda pair: (-pair[0], -len(pair[1]), pair[1]),
    )
    return ", ".join(_unlike(term for score, term in scored if score > 0))


def _distinctness(share: float, other: float) -> float:
    return share * math.log((share + 0.05) / (other + 0.05))


def _unlike(terms: Iterator[str]) -> list[str]:
    """The first few terms of which none holds another."""
    chosen: list[str] = []
    for term in terms:
        if any(word.isalnum() for word in term.split()) and not any(set(term.split()) & set(t.split()) for t in chosen):
            chosen.append(term)
        if len(chosen) == NAME_TERMS:
            break
    return chosen
