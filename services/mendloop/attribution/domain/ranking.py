"""Who speaks for a slice's failures and who against: influence and likeness of each training example, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranked:
    """One training example. at: its place in the corpus."""

    at: int
    influence: float
    """By how much training on it lowers the queries' loss, up to a common factor; below 0 it raises it."""
    likeness: float | None
    """The retriever's score; None where there is none."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The strongest examples on both sides, strongest first."""

    proponents: tuple[Ranked, ...]
    opponents: tuple[Ranked, ...]
    candidate_count: int


def ranked(
    influence: NDArray[np.float32], likeness: NDArray[np.float32] | None, candidates: Sequence[int], *, top: int
) -> Ranking:
    """The top positive and top negative of the candidates; equal ones in the order of the corpus."""
    rows = [
        Ranked(at, float(value), None if likeness is None else float(likeness[at]))
        for at, value in zip(candidates, influence, strict=True)
    ]
    by_influence = sorted(rows, key=lambda row: (-row.influence, row.at))
    proponents = [row for row in by_influence if row.influence > 0]
    opponents = [row for row in reversed(by_influence) if row.influence < 0]
    return Ranking(tuple(proponents[:top]), tuple(opponents[:top]), len(rows))


def likeliest(likeness_QN: NDArray[np.float32], *, count: int) -> list[int]:
    """Of each query the count most alike examples, together, in the order of the corpus."""
    kept = min(count, likeness_QN.shape[1])
    best_QC = np.argsort(-likeness_QN, axis=1, kind="stable")[:, :kept]
    return sorted({int(at) for at in best_QC.ravel()})
