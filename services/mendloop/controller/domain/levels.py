"""At which level a test may be asked, so that the stated error rate holds over rounds and over runs. Knows no test.

Over the rounds of a run. Each round puts another candidate before the same gates, so each round is another chance to
pass by luck. The error rate alpha is spent evenly over the rounds that the recipe allows (Bonferroni): whenever the
run stops, the probability that any candidate without gain, or with a loss as wide as its margin, was promoted is at
most alpha. Each candidate is looked at once, with all items; there is no stream of looks at one candidate, for which
an e-process would be the tool. The level bounds false promotions only: what a harmless candidate must not suffer
(`gates.resolution`) is not spent, for each candidate may be rejected by its own bad luck.
This holds for tests on items that the candidate was not made by. The open items are no such items from the second
round on, for diagnosis and data follow what failed on them: there the sealed items and the twins carry the guarantee,
and either alone does. Where a suite has twins, which are new in each round, they are tested at the spent level and the
sealed items, which repeat the claim on other items, at alpha: spending twice would only reject good candidates.

Over runs. Sealed items judge candidates of many rounds and runs, each made by people or a loop who know the answers
so far. With a query budget they are asked as in the Ladder (Blum & Hardt 2015, arXiv 1502.04585): a figure is given
out only where the candidate is significantly better than the checkpoint that stands; else the answer is only "no".
What can be learnt is then small. After k - 1 queries of which j said anything but "no", there are at most
C(k-1, j) * 2^j histories, hence so many candidates that may come next, each fixed before the items are looked at.
Query k is tested at alpha / (K * k * C(k-1, j) * 2^j): summed over all histories of K queries this is at most alpha,
so no adaptive sequence of K queries gets a candidate without gain through with a probability above alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """How often a set of sealed items was asked: how many answers, and how many of them said anything but "no"."""

    used_count: int
    told_count: int
    budget: int | None
    """Queries that it may answer over all runs; None for any number."""

    def __post_init__(self) -> None:
        if not 0 <= self.told_count <= self.used_count:
            raise ValueError(f"told_count is {self.told_count} of used_count {self.used_count}")

    @property
    def is_spent(self) -> bool:
        """Whether no further query is answered."""
        return self.budget is not None and self.used_count >= self.budget

    def level(self, alpha: float) -> float:
        """The level of the next query; alpha itself where there is no budget. See the module."""
        if self.budget is None:
            return alpha
        histories = math.comb(self.used_count, self.told_count) * (1 << self.told_count)
        return alpha / (self.budget * (self.used_count + 1) * histories)

    @property
    def in_words(self) -> str:
        """For the gate's answer: this query included."""
        if self.budget is None:
            return f"query {self.used_count + 1} of this sealed suite, no budget set"
        left = max(0, self.budget - self.used_count - 1)
        return f"query {self.used_count + 1} of this sealed suite's {self.budget}, {left} left"


UNASKED = Standing(0, 0, None)


def level_of_round(alpha: float, *, rounds: int) -> float:
    """The level of one round, by which the error rate holds over all of them."""
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1")
    return alpha / rounds


def standing_of(told: Sequence[bool], *, budget: int | None) -> Standing:
    """From the answers so far: whether each said anything but "no"."""
    return Standing(len(told), sum(told), budget)
