"""Owns what makes a slice weak: exact tests on the search split, false discovery rate, agreement of a second split.

Counts over bit masks; knows neither models nor events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendloop.core.recipe import SuiteSettings
from mendloop.core.records import Outcome
from mendloop.core.stats import benjamini_hochberg, p_below, p_lower
from mendloop.evaluator.domain.candidates import Bits, Candidates, candidates_of, count, pack
from mendloop.evaluator.domain.scoring import Tally

FEWEST_CONFIRM_ITEMS = 5


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
        row: Bits = self.candidates.masks[index]
        return row

    def tally(self, index: int, within: Bits) -> Tally:
        """Right answers of a candidate among some items."""
        return self.tally_of(self.mask(index) & within)

    def tally_of(self, items: Bits) -> Tally:
        """Right answers among some items."""
        return Tally(int(count(items & self.right)), int(count(items)))

    def tallies(self, indexes: Sequence[int], within: Bits) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(right answers, items) of each candidate among some items."""
        masks = self.candidates.masks[list(indexes)] & within
        return count(masks & self.right), count(masks)

    def p_values(self, indexes: Sequence[int], alive: Bits) -> list[float]:
        """One-sided exact p-values on the living items of the search split."""
        if not self.rules.weak_below:
            return [1.0] * len(indexes)  # nothing is below zero
        correct, n = self.tallies(indexes, alive & self.in_search)
        return [p_below(int(k), int(m), threshold=self.rules.weak_below) for k, m in zip(correct, n, strict=True)]

    def weak(self, indexes: Sequence[int], alive: Bits) -> list[int]:
        """The candidates that both splits call weak on the items that are alive."""
        _, n = self.tallies(indexes, alive & self.in_search)
        _, m = self.tallies(indexes, alive & self.in_confirm)
        large = (n >= self.rules.min_items) & (m >= self.rules.min_confirm_items)
        tested = [index for index, is_large in zip(indexes, large, strict=True) if is_large]
        q_values = benjamini_hochberg(self.p_values(tested, alive))
        found = [index for index, q in zip(tested, q_values, strict=True) if q <= self.rules.fdr]
        return [index for index in found if self._is_confirmed(index, alive)]

    def _is_confirmed(self, index: int, alive: Bits) -> bool:
        correct, n = self.tally(index, alive & self.in_confirm)
        if correct >= self.rules.weak_below * n:
            return False
        is_reachable = p_below(0, n, threshold=self.rules.weak_below) <= self.rules.fdr
        return not is_reachable or p_below(correct, n, threshold=self.rules.weak_below) <= self.rules.fdr

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
        masks = self.candidates.masks[list(indexes)] & alive
        inside = ~(masks & ~target).any(axis=-1) & (masks != target).any(axis=-1)
        return [index for index, is_inside in zip(indexes, inside, strict=True) if is_inside]

    def wider(self, indexes: Sequence[int], narrow: int, alive: Bits) -> list[int]:
        """The candidates whose living items are all of the narrow one's and more."""
        target = self.mask(narrow) & alive
        masks = self.candidates.masks[list(indexes)] & alive
        around = ~(target & ~masks).any(axis=-1) & (masks != target).any(axis=-1)
        return [index for index, is_around in zip(indexes, around, strict=True) if is_around]

    def differs(self, items: Bits, rest: Bits, *, looks: int) -> bool:
        """Whether the items do worse than the rest, at the rate divided by how many were looked at."""
        correct, n = self.tally_of(items)
        other_correct, other_n = self.tally_of(rest)
        return p_lower(correct, n, other_correct=other_correct, other_n=other_n) <= self.rules.fdr / max(1, looks)
