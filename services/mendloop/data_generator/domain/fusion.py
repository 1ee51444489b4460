"""Reciprocal rank fusion: one order out of several ranked lists. Knows names; knows no scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mendloop.core.events import stable_hash

CONSTANT = 60
"""Of Cormack, Clarke & Buettcher 2009 ("Reciprocal Rank Fusion", SIGIR): how little the first ranks stand out."""


def fused(rankings: Iterable[Sequence[str]], *, seed: int) -> list[str]:
    """All names, by the sum of 1 / (60 + rank) over the lists that have them; the seed orders equals."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1 / (CONSTANT + rank)
    # rounded: the order in which lists are summed must not part equals
    return sorted(scores, key=lambda name: (-round(scores[name], 12), stable_hash(str(seed), name)))
