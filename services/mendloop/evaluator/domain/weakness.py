"""Owns what makes a slice weak: exact tests on the search split, false discovery rate, agreement of a second split.

Counts over bit masks; knows neither models nor events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from mendloop.core.recipe import SuiteSettings
from mendloop.core.records import Outcome
from mendloop.core.stats import benjamini_hochberg, p_lower
from mendloop.evaluator.domain.candidates import Bits, Candidates, candidates_of, count, pack
from mendloop.evaluator.domain.scoring import Tally

FEWEST_CONFIRM_ITEMS = 5
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SliceRules:
    """What makes a slice weak."""

    axes: tuple[str, ...]
    max_depth: int
    weak_below: float
    min_items: int
    min_confirm_items: int
    fdr: float
    max_slices: int

    @staticmethod
    def of(suite: SuiteSettings) -> SliceRules:
        """The rules of a recipe. A slice needs the same share of the second split as of the first, at least 5 items."""
        share = -(-suite.min_items * suite.confirm // suite.search)
        return SliceRules(
            axes=tuple(suite.axes),
            max_depth=suite.max_depth,
            weak_below=suite.weak_below,
            min_items=suite.min_items,
            min_confirm_items=max(FEWEST_CONFIRM_ITEMS, share),
            fdr=suite.fdr,
            max_slices=suite.max_slices,
        )


@dataclass(frozen=True, slots=True)
class SliceTable:
    """Candidates and right answers as bit masks over the items of both splits."""

    rules: SliceRules
    candidates: Candidates
    right: Bits
    in_search: Bits
    in_confirm: Bits

    @staticmethod
    def of(rows: Sequence[Outcome], *, rules: SliceRules) -> SliceTable:
        """The table of outcomes of the splits search and confirm."""
        in_search = pack(np.array([row.split == "search" for row in rows], dtype=np.bool_))
        in_confirm = pack(np.array([row.split == "confirm" for row in rows], dtype=np.bool_))
        candidates = candidates_of(
            [row.axes for row in rows],
            axes=rules.axes,
            max_depth=rules.max_depth,
            splits=[(in_search, rules.min_items), (in_confirm, rules.min_confirm_items)],
        )
        right = pack(np.array([row.is_correct for row in rows], dtype=np.bool_))
        return SliceTable(rules, candidates, right, in_search, in_confirm)

    def mask(self, index: int) -> Bits:
        """Items of a candidate."""
        row: Bits = self.candidates.masks([index])[0]
        return row

    def tally(self, index: int, within: Bits) -> Tally:
        """Right answers of a candidate among some items."""
        return self.tally_of(self.mask(index) & within)

    def tally_of(self, items: Bits) -> Tally:
        """Right answers among some items."""
        return Tally(int(count(items & self.right)), int(count(items)))

    def tallies(self, indexes: Sequence[int], within: Bits) -> tuple[Counts, Counts]:
        """(right answers, items) of each candidate among some items."""
        right = within & self.right
        pairs = [(count(masks & right), count(masks & within)) for masks in self.candidates.chunks(indexes)]
        empty = np.zeros(0, dtype=np.int64)
        return np.concatenate([empty, *(k for k, _ in pairs)]), np.concatenate([empty, *(n for _, n in pairs)])

    def p_values(self, indexes: Sequence[int], alive: Bits) -> list[float]:
        """One-sided exact p-values on the living items of the search split."""
        correct, n = self.tallies(indexes, alive & self.in_search)
        p_values: list[float] = _p_below(correct, n, threshold=self.rules.weak_below).tolist()
        return p_values

    def weak(self, indexes: Sequence[int], alive: Bits) -> list[int]:
        """The candidates that both splits call weak on the items that are alive."""
        correct, n = self.tallies(indexes, alive & self.in_search)
        confirmed, m = self.tallies(indexes, alive & self.in_confirm)
        large = (n >= self.rules.min_items) & (m >= self.rules.min_confirm_items)
        p_values = _p_below(correct[large], n[large], threshold=self.rules.weak_below)
        q_values = np.array(benjamini_hochberg(p_values.tolist()), dtype=np.float64)
        found = np.flatnonzero(large)[q_values <= self.rules.fdr]
        agrees = self._agrees(confirmed[found], m[found])
        return [indexes[i] for i in found[agrees].tolist()]

    def _agrees(self, correct: Counts, n: Counts) -> NDArray[np.bool_]:
        """Whether the second split agrees: see find_weak_slices."""
        threshold, rate = self.rules.weak_below, self.rules.fdr
        is_below = correct < threshold * n
        is_reachable = _p_below(np.zeros_like(n), n, threshold=threshold) <= rate
        is_significant = _p_below(correct, n, threshold=threshold) <= rate
        agrees: NDArray[np.bool_] = is_below & (~is_reachable | is_significant)
        return agrees

    def failure_mass(self, indexes: Sequence[int], alive: Bits) -> NDArray[np.float64]:
        """log P(items | their own accuracy) - log P(items | threshold), in nats; 0 at or above the threshold."""
        correct, n = (counts.astype(np.float64) for counts in self.tallies(indexes, alive))
        own = np.clip(correct / np.maximum(n, 1), 1e-12, 1 - 1e-12)
        ratio = correct * np.log(own / self.rules.weak_below)
        if self.rules.weak_below < 1:
            ratio += (n - correct) * np.log((1 - own) / (1 - self.rules.weak_below))
        else:
            ratio = n - correct  # one failure disproves a threshold of 1: then failures are the mass
        return np.where(own < self.rules.weak_below, ratio, 0.0)

    def narrower(self, indexes: Sequence[int], wide: int, alive: Bits) -> list[int]:
        """The candidates whose living items are some, not all, of the wide one's."""
        target = self.mask(wide) & alive
        outside, size = alive & ~target, int(count(target))
        chunks = self.candidates.chunks(indexes)
        found = [(count(masks & outside) == 0) & (count(masks & target) < size) for masks in chunks]
        return _picked(indexes, found)

    def wider(self, indexes: Sequence[int], narrow: int, alive: Bits) -> list[int]:
        """The candidates whose living items are all of the narrow one's and more."""
        target = self.mask(narrow) & alive
        outside = alive & ~target
        size = int(count(target))
        chunks = self.candidates.chunks(indexes)
        found = [(count(masks & target) == size) & (count(masks & outside) > 0) for masks in chunks]
        return _picked(indexes, found)

    def differs(self, items: Bits, rest: Bits, *, looks: int) -> bool:
        """Whether the items do worse than the rest, at the rate divided by how many were looked at."""
        correct, n = self.tally_of(items)
        other_correct, other_n = self.tally_of(rest)
        return p_lower(correct, n, other_correct=other_correct, other_n=other_n) <= self.rules.fdr / max(1, looks)


def _picked(indexes: Sequence[int], flags: Sequence[NDArray[np.bool_]]) -> list[int]:
    chosen = np.flatnonzero(np.concatenate(flags)).tolist() if flags else []
    return [indexes[i] for i in chosen]


def _p_below(correct: Counts, n: Counts, *, threshold: float) -> NDArray[np.float64]:
    """mendloop.core.stats.p_below over arrays; 1 for a threshold of 0, since nothing is below it."""
    if not threshold:
        return np.ones(len(n))
    p_values: NDArray[np.float64] = np.where(n > 0, bdtr(correct.astype(np.float64), n, threshold), 1.0)
    return p_values
