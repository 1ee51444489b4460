"""Clusters of things that are bags of terms, named by the terms that set them apart. Knows terms; knows no failure.

Terms are hashed, weighted by rarity, and clustered on the sphere (Dhillon & Modha 2001). A fitted clustering is a small
document: it assigns new bags without seeing the old ones.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 256
"""Hashed terms may collide: 256 places keep a document of ten clusters under 30 KB."""
MOST_CLUSTERS = 8
ROUNDS = 20
GAIN = 0.02
"""Another cluster has to raise the mean similarity to the own centre by this much."""
NAMED_TERMS = 3

Bag = Sequence[str]
Matrix = NDArray[np.float64]


class Cluster(NamedTuple):
    """A named centre of unit length; share is that of the fitted bags."""

    name: str
    share: float
    centre: tuple[float, ...]


class Near(NamedTuple):
    """A cluster's place in the clustering, with its cosine similarity."""

    at: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Clustering:
    """Clusters, largest first, and the weights of hashed terms."""

    clusters: tuple[Cluster, ...]
    weights: tuple[float, ...]

    def nearest(self, bag: Bag) -> list[Near]:
        """All clusters, the most similar first."""
        vector = _vectors([bag], np.array(self.weights))[0]
        found = [Near(at, float(vector @ np.array(one.centre))) for at, one in enumerate(self.clusters)]
        return sorted(found, key=lambda near: (-near.similarity, near.at))

    def assigned(self, bags: Sequence[Bag]) -> NDArray[np.int64]:
        """The place of the most similar cluster of each bag; the first of equals."""
        centres = np.array([one.centre for one in self.clusters])
        similarities = _vectors(bags, np.array(self.weights)) @ centres.T
        return np.asarray(np.argmax(similarities, axis=1), np.int64)

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {"clusters": [one._asdict() for one in self.clusters], "weights": list(self.weights)}

    @staticmethod
    def of(document: Mapping[str, object]) -> Clustering:
        """Read a document. Raises KeyError, TypeError or ValueError where it is none."""
        rows, weights = document["clusters"], document["weights"]
        if not isinstance(rows, list) or not isinstance(weights, list) or len(weights) != DIMENSIONS:
            raise ValueError(f"a clustering holds a list of clusters and {DIMENSIONS} weights")
        clusters = (Cluster(str(row["name"]), float(row["share"]), tuple(map(float, row["centre"]))) for row in rows)
        return Clustering(tuple(clusters), tuple(map(float, weights)))


def cluster(bags: Sequence[Bag], *, seed: int, most: int = MOST_CLUSTERS) -> Clustering:
    """Cluster at least one bag: clusters are added while each brings the bags clearly nearer to a centre."""
    if not bags:
        raise ValueError("there is nothing to cluster")
    weights = _weights(bags)
    vectors = _vectors(bags, weights)
    best = _spherical(vectors, 1, seed=seed)
    for count in range(2, min(most, len(bags)) + 1):
        found = _spherical(vectors, count, seed=seed)
        if found.similarity < best.similarity + GAIN:
            break
        best = found
    return Clustering(_named(bags, best), tuple(round(float(weight), 4) for weight in weights))


class _Split(NamedTuple):
    labels: NDArray[np.intp]
    centres: Matrix
    similarity: float


def _spherical(vectors: Matrix, count: int, *, seed: int) -> _Split:
    """k-means by cosine from far-apart starts."""
    rng = np.random.default_rng(seed)
    starts = [int(rng.integers(len(vectors)))]
    while len(starts) < count:
        starts.append(int(np.argmin((vectors @ vectors[starts].T).max(axis=1))))
    centres = vectors[starts]
    labels = np.zeros(len(vectors), dtype=np.intp)
    for _ in range(ROUNDS):
        labels = np.argmax(vectors @ centres.T, axis=1)
        sums = np.array([vectors[labels == at].sum(axis=0) for at in range(count)])
        centres = _unit(np.where(sums.any(axis=1, keepdims=True), sums, centres))
    return _Split(labels, centres, float((vectors * centres[labels]).sum(axis=1).mean()))


def _named(bags: Sequence[Bag], split: _Split) -> tuple[Cluster, ...]:
    everywhere = Counter(term for bag in bags for term in set(bag))
    found = []
    for at, centre in enumerate(split.centres):
        own = [bag for bag, label in zip(bags, split.labels, strict=True) if label == at]
        if own:
            name = _name(Counter(term for bag in own for term in set(bag)), len(own), everywhere, len(bags))
            found.append(Cluster(name, len(own) / len(bags), tuple(round(float(value), 4) for value in centre)))
    return tuple(sorted(found, key=lambda one: (-one.share, one.name)))


def _name(inside: Counter[str], n: int, everywhere: Counter[str], total: int) -> str:
    """The terms whose share inside exceeds that outside most; of equals the commoner, then by name."""

    def distinct(term: str) -> float:
        outside = (everywhere[term] - inside[term]) / max(1, total - n)
        return inside[term] / n - outside

    ranked = sorted(inside, key=lambda term: (-round(distinct(term), 6), -inside[term], term))
    return ", ".join(ranked[:NAMED_TERMS]) or "(nothing)"


def _weights(bags: Sequence[Bag]) -> Matrix:
    """Inverse document frequency of each hashed place."""
    seen = np.zeros(DIMENSIONS)
    for bag in bags:
        seen[list({_place(term) for term in bag})] += 1
    return np.array([math.log((1 + len(bags)) / (1 + count)) + 1 for count in seen])


def _vectors(bags: Sequence[Bag], weights: Matrix) -> Matrix:
    vectors = np.zeros((len(bags), DIMENSIONS))
    for row, bag in zip(vectors, bags, strict=True):
        for term, count in Counter(bag).items():
            row[_place(term)] += 1 + math.log(count)
    return _unit(vectors * weights)


def _unit(vectors: Matrix) -> Matrix:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _place(term: str) -> int:
    return zlib.crc32(term.encode()) % DIMENSIONS
