"""The scale claim of benchmarks/effectiveness.py: a small model with the loop against a large one without it.

Both learn the same corpus with its weaknesses in as many steps. Compute is estimated: 6 operations a weight and
training token, 2 a weight and token of an evaluation (Kaplan et al. 2020, arXiv 2001.08361); ours pays for its search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effectiveness_scores import Cell, Estimate, estimate, share_of

LEAST_SCORE, MOST_COMPUTE = 0.95, 0.2


@dataclass(frozen=True)
class ScaleRow:
    """Overall accuracies in the task's own distribution, over seeds, and what they cost."""

    family: str
    seed_count: int
    small_parameters: int
    large_parameters: int
    small: Estimate
    looped: Estimate
    large: Estimate
    score_share: Estimate
    compute_share: float

    @property
    def reaches_score(self) -> bool:
        """Whether the small one with the loop has enough of the large one's score."""
        return self.score_share.mean >= LEAST_SCORE

    @property
    def reaches_compute(self) -> bool:
        """Whether it took little enough of its compute."""
        return self.compute_share <= MOST_COMPUTE


def training_flops(parameters: int, *, tokens: int) -> int:
    """Forward and backward."""
    return 6 * parameters * tokens


def evaluation_flops(parameters: int, *, tokens: int) -> int:
    """Forward alone."""
    return 2 * parameters * tokens


def scale_row(looped: Sequence[Cell], small: Sequence[Cell], large: Sequence[Cell]) -> ScaleRow:
    """From cells of the same seeds: the small base after the loop, the small base, the large one."""
    if not [cell.seed for cell in looped] == [cell.seed for cell in small] == [cell.seed for cell in large]:
        raise ValueError("cells that are compared must have the same seeds")
    shares = [
        _small_flops(fixed, base) / training_flops(big.facts["parameters"], tokens=big.facts["tokens"])
        for fixed, base, big in zip(looped, small, large, strict=True)
    ]
    scores = [cell.after.overall for cell in looped], [cell.after.overall for cell in large]
    return ScaleRow(
        looped[0].family,
        len(looped),
        small[0].facts["parameters"],
        large[0].facts["parameters"],
        estimate([cell.after.overall for cell in small]),
        estimate(scores[0]),
        estimate(scores[1]),
        share_of(*scores),
        sum(shares) / len(shares),
    )


def _small_flops(fixed: Cell, base: Cell) -> int:
    parameters = base.facts["parameters"]
    trained = training_flops(parameters, tokens=base.facts["tokens"] + fixed.facts["tokens"])
    return trained + evaluation_flops(parameters, tokens=base.facts["search_tokens"])
