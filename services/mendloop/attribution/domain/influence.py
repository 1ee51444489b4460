"""Influence of training examples on a loss, from projected gradients and a damped curvature, block by block.

With g the gradient of a training example, q that of a query and H the curvature, training on the example lowers the
query's loss by about q' H^-1 g (Koh & Liang 2017). H is the empirical Fisher of each module by itself, in the
projected space, where it is small enough to be exact (TRAK: Park et al. 2023; LoGra: Choe et al. 2024).

Shapes: N examples, Q queries, D numbers of a row, K numbers of one module's block, R rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
DAMPING = 0.1
"""Times a block's mean eigenvalue. Of .01, .03, .1, .3, 1 and 10, .1 gave the best linear datamodeling score."""


@dataclass(frozen=True, slots=True)
class Block:
    """One module's place in a row."""

    name: str
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the block of {self.name!r} has the size {self.size}; it must be at least 1")


def places(blocks: Iterable[Block]) -> list[tuple[Block, slice]]:
    """Each block with its columns in a row."""
    found, start = [], 0
    for block in blocks:
        found.append((block, slice(start, start + block.size)))
        start += block.size
    return found


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """What solves one block: H + floor * I = vectors diag(values) vectors' + floor * I."""

    values_R: NDArray[np.float64]
    vectors_KR: NDArray[np.float64]
    floor: float

    def solve(self, part_QK: NDArray[np.float64]) -> NDArray[np.float64]:
        """(H + floor * I)^-1, by Woodbury's identity: directions that no example has cost nothing."""
        shrink_R = self.values_R / (self.values_R + self.floor)
        return (part_QK - (part_QK @ self.vectors_KR * shrink_R) @ self.vectors_KR.T) / self.floor


class Curvature:
    """The damped inverse of each block's mean outer product of gradients."""

    def __init__(self, blocks: Sequence[Block], rows_ND: Rows, *, damping: float = DAMPING) -> None:
        """Fit on rows of training examples. damping is relative to each block's mean eigenvalue."""
        if not damping > 0:
            raise ValueError(f"damping is {damping}; it must be above 0, else unseen directions are divided by 0")
        if not len(rows_ND):
            raise ValueError("a curvature needs at least one training example")
        self._parts = [(place, _spectrum(rows_ND[:, place], damping=damping)) for _, place in places(blocks)]

    def solve(self, rows_QD: Rows) -> Rows:
        """The rows times the damped inverse, [Q, D]."""
        parts = [spectrum.solve(rows_QD[:, place].astype(np.float64)) for place, spectrum in self._parts]
        return np.concatenate(parts, axis=1).astype(np.float32)


def _spectrum(part_NK: Rows, *, damping: float) -> _Spectrum:
    scaled_NK = part_NK.astype(np.float64) / np.sqrt(len(part_NK))
    mean = float(np.square(scaled_NK).sum()) / part_NK.shape[1]
    floor = damping * mean if mean > 0 else 1.0  # a module that no example reaches is flat
    if len(part_NK) >= part_NK.shape[1]:
        values_K, vectors_KK = np.linalg.eigh(scaled_NK.T @ scaled_NK)
        return _Spectrum(np.maximum(values_K, 0), vectors_KK, floor)
    values_N, vectors_NN = np.linalg.eigh(scaled_NK @ scaled_NK.T)
    kept = values_N > values_N[-1] * 1e-12
    vectors_KR = scaled_NK.T @ (vectors_NN[:, kept] / np.sqrt(values_N[kept]))
    return _Spectrum(values_N[kept], vectors_KR, floor)
