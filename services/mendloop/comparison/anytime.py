"""Paired differences that may be looked at after every item: a betting e-process and its confidence sequence.

Knows a stream of differences in the order in which the items came; the order must not depend on the results.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendloop.core.stats import Interval

Floats = NDArray[np.float64]
_TRUNCATION = 0.5
"""c of Waudby-Smith & Ramdas: no bet risks more than half of the capital."""
_SIDE = 160
"""Grid points on each side of the mean: neighbours differ by a few percent of their distance to it."""
_CHUNK_CELLS = 2_000_000
"""Capitals held at a time: 16 MB."""


class ConfidenceSequence(NamedTuple):
    """A confidence sequence: the interval after every item, and the anytime-valid p-value of "no difference"."""

    low_N: Floats
    high_N: Floats
    p_value_N: Floats

    @property
    def last(self) -> Interval:
        """The interval after the last item."""
        return Interval(float(self.low_N[-1]), float(self.high_N[-1]))

    @property
    def p_value(self) -> float:
        """The p-value after the last item; valid whenever one stops."""
        return float(self.p_value_N[-1])


def confidence_sequence(differences_N: Floats, *, confidence: float = 0.95) -> ConfidenceSequence:
    """Hedged-capital confidence sequence of the mean difference, each in -1..1.

    Waudby-Smith & Ramdas 2024 (JRSS B 86:1, arXiv 2010.09686), Theorem 3: every mean m is tested by betting on and
    against it; those whose capital stays below 1 / level are kept, at every look at once (Ville's inequality).
    """
    if not len(differences_N) or np.isnan(differences_N).any() or np.abs(differences_N).max() > 1:
        raise ValueError(f"a confidence sequence needs differences in -1..1; got {differences_N[:5]} ...")
    level = 1 - confidence
    grid_M, n = _grid(differences_N), len(differences_N)
    rows = max(1, _CHUNK_CELLS // n)
    kept_MN = np.concatenate(
        [
            np.maximum.accumulate(_log_capital(differences_N, grid_M[at : at + rows], level=level), axis=1)
            < math.log(1 / level)
            for at in range(0, len(grid_M), rows)
        ]
    )
    low_N, high_N = _ends(kept_MN, grid_M)
    null_N = np.maximum.accumulate(_log_capital(differences_N, np.array([0.5]), level=level)[0])
    return ConfidenceSequence(2 * low_N - 1, 2 * high_N - 1, np.minimum(1.0, np.exp(-null_N)))


def log_e_process(differences_N: Floats, *, level: float = 0.05) -> Floats:
    """Log of the e-process against "no difference" after every item: reject for good once it reaches log(1/level)."""
    return np.asarray(_log_capital(differences_N, np.array([0.5]), level=level)[0])


def _grid(differences_N: Floats) -> Floats:
    """Means to test, scaled to 0..1, dense around the data's: each point is a test of its own, whatever the others."""
    mean, n = (float(differences_N.mean()) + 1) / 2, len(differences_N)
    steps = np.geomspace(0.05 / math.sqrt(n), 1.0, _SIDE)
    return np.unique(np.clip(np.concatenate([mean - steps, [mean, 0.5], mean + steps]), 0, 1))


def _ends(kept_MN: NDArray[np.bool_], grid_M: Floats) -> tuple[Floats, Floats]:
    """First and last kept grid point, widened by one step: the truth between two points is not lost."""
    count = len(grid_M)
    first_N, last_N = kept_MN.argmax(axis=0), count - 1 - kept_MN[::-1].argmax(axis=0)
    is_empty_N = ~kept_MN.any(axis=0)  # a rare failure (at most `level`): nothing is consistent any more
    low_N, high_N = grid_M[np.maximum(first_N - 1, 0)], grid_M[np.minimum(last_N + 1, count - 1)]
    if is_empty_N.any():
        at = int(is_empty_N.argmax())
        low_N[at:], high_N[at:] = (low_N[at - 1], high_N[at - 1]) if at else (0.0, 1.0)
    return np.maximum.accumulate(low_N), np.minimum.accumulate(high_N)


def _log_capital(differences_N: Floats, grid_M: Floats, *, level: float) -> Floats:
    """Log of the hedged capital (half on "more than m", half on "less") by grid point and item."""
    scaled_N = (differences_N + 1) / 2
    bets_N = _bets(scaled_N, level=level)
    floor_M, ceiling_M = np.maximum(grid_M, 1e-9)[:, None], np.maximum(1 - grid_M, 1e-9)[:, None]
    gain_MN = scaled_N[None] - grid_M[:, None]
    up_MN = np.cumsum(np.log1p(np.minimum(bets_N[None], _TRUNCATION / floor_M) * gain_MN), axis=1)
    down_MN = np.cumsum(np.log1p(-np.minimum(bets_N[None], _TRUNCATION / ceiling_M) * gain_MN), axis=1)
    return np.asarray(np.logaddexp(up_MN, down_MN) - math.log(2))


def _bets(scaled_N: Floats, *, level: float) -> Floats:
    """Predictable plug-in bets (their equation 26): each knows only the items before it."""
    count_N = np.arange(1, len(scaled_N) + 1)
    mean_N = (0.5 + np.cumsum(scaled_N)) / (count_N + 1)
    variance_N = (0.25 + np.cumsum((scaled_N - mean_N) ** 2)) / (count_N + 1)
    before_N = np.concatenate([[0.25], variance_N[:-1]])
    return np.asarray(np.sqrt(2 * math.log(2 / level) / (before_N * count_N * np.log1p(count_N))))
