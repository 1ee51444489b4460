"""Whether a candidate may replace its baseline: targets improve, nothing protected breaks, sealed items agree.

Knows paired counts; knows neither items nor events. `resolution` explains the rule for protected slices.

Error rates. A candidate is promoted only if every gate passes, an intersection-union test (Berger 1982): the claim
"everything passed" needs no correction, each gate has level alpha. What grows with the number of slices is the false
reject of a harmless candidate. Requiring non-inferiority at the margin on each of 15 slices of ~200 items rejects
most harmless candidates: such a slice cannot show "less than 5 points" even where nothing changed. So each slice is
tested at the margin or at its own resolution, whichever is wider: the smallest loss that a harmless candidate would
rule out with probability 1 - alpha / (2 x number of slices). By Bonferroni the slices together reject a harmless
candidate at most with probability alpha (half of it is for the churn being an estimate; measured over 15 slices of
900 items: 3.8 %), and a loss as wide as the tested margin passes at most with probability alpha. Where the resolution
is wider than the margin the answer is named protected_undecidable and says which loss was ruled out instead: a small
slice neither passes silently nor fails always. All items together must be non-inferior at the margin itself.
What is promised of harmless candidates holds for each by itself, at alpha; the level of the tests may be smaller, where
alpha is spent over rounds or over queries of the sealed items (`levels`). It is not spent where a slice is undecidable:
there a smaller level does not let less harm through: it names a wider loss and rejects candidates whose items flip a
little more often than most. Which loss passes how often, by the size of the slice: docs/deciding.md.

The churn is how often items flip in a harmless way. It is estimated by the rarer direction, which harm does not raise,
on the items outside the targets, where no gain is meant: the slice's own rate (one item added) or the pooled one (a
standard error and one item added, for the rarer of two counts is biased down), whichever is larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import gammaln, ndtri

from mendloop.controller.domain.levels import UNASKED, Standing
from mendloop.controller.domain.pairs import Counts
from mendloop.controller.domain.records import Conditions, GateAnswer
from mendloop.core.stats import holm, p_improved, p_not_inferior, paired_difference

TARGET = "target_improves"
PROTECTED = "protected_non_inferior"
UNDECIDABLE = "protected_undecidable"
SEALED_TARGET = "sealed_agrees"
SEALED_ALL = "sealed_non_inferior"
PROTECTED_GATES = (PROTECTED, UNDECIDABLE, SEALED_ALL)

Slice = tuple[Conditions, Counts]

_NORMAL_ABOVE = 400.0
"""Mean above which the normal quantile stands for the Skellam quantile (they agree to 1 % there)."""


def target_gates(targets: Sequence[Slice], *, alpha: float) -> list[GateAnswer]:
    """Each target improves: exact one-sided McNemar on the same items, Holm over the targets.

    The targets were chosen for being weak on some of these items, which favours the candidate a little (regression to
    the mean); the sealed gate repeats the test on items that nobody chose by.
    """
    adjusted = holm([p_improved(counts.lost, counts.gained) for _, counts in targets])
    words = f"better, exact McNemar p <= {alpha:g} after Holm over {len(targets)} target(s)"
    return [
        _answer(TARGET, conditions, counts, p=p, passed=p <= alpha, requirement=words)
        for (conditions, counts), p in zip(targets, adjusted, strict=True)
    ]


def protected_gates(
    everything: Counts,
    slices: Sequence[Slice],
    *,
    outside: Counts,
    alpha: float,
    margin: float,
    level: float | None = None,
) -> list[GateAnswer]:
    """All items are non-inferior at the margin, each slice at the margin or its resolution. See the module.

    alpha is the rate at which a harmless candidate may fail, level that of the tests; alpha where it is not given.

    slices and outside count the items that lie in no target, so that a gain on a target pays for no loss elsewhere
    (simulated: else a 10-point loss on a quarter of the items passed in 30 % of runs behind a target inside it).
    """
    level = alpha if level is None else level
    rarer = min(outside.lost, outside.gained)
    pooled = (rarer + math.sqrt(rarer) + 1) / outside.n if outside.n else 0.0
    answers = [_non_inferior(PROTECTED, (), everything, alpha=level, margin=margin)]
    for conditions, counts in slices:
        own = (min(counts.lost, counts.gained) + 1) / counts.n if counts.n else 0.0
        churn = max(pooled, own)
        if resolution(counts, churn=churn, alpha=alpha, slice_count=len(slices), level=level) <= margin:
            answers.append(_non_inferior(PROTECTED, conditions, counts, alpha=level, margin=margin))
            continue
        limit = max(margin, resolution(counts, churn=churn, alpha=alpha, slice_count=len(slices)))
        answers.append(_undecidable(conditions, counts, alpha=alpha, margin=margin, limit=limit))
    return answers


def sealed_gates(
    everything: Counts | None,
    targets: Sequence[Slice],
    *,
    target_count: int,
    is_wanted: bool,
    design_effect: float,
    alpha: float,
    margin: float,
    level: float | None = None,
    standing: Standing = UNASKED,
) -> list[GateAnswer]:
    """The sealed holdout agrees: the targets together improve and all sealed items are non-inferior at the margin.

    level is that of the targets' test; alpha where it is not given, and where twins carry the guarantee over rounds
    (`levels`). Non-inferiority is tested at alpha in any round: it repeats what the open items showed at the level.
    Where the suite has a query budget the figures are withheld, and the second question is only asked where the first
    is answered with yes (`levels`).
    Only counts are known, so items in two targets count twice: the counts are divided by the design effect that the
    same slices have on the open items (lost rounded up, gained down).
    """
    if not is_wanted:
        return [_unmeasured(SEALED_TARGET, passed=True, why="not applied: the recipe has no sealed items")]
    if standing.is_spent:
        why = f"the sealed suite answered {standing.used_count} of {standing.budget} queries: draw new sealed items"
        return [_unmeasured(SEALED_TARGET, passed=False, why=f"{why} (another seed)")]
    if everything is None or not everything.n:
        return [_unmeasured(SEALED_TARGET, passed=False, why="the recipe has sealed items, the evaluation no counts")]
    present = [(conditions, counts) for conditions, counts in targets if counts.n]
    if not present:
        return [_unmeasured(SEALED_TARGET, passed=False, why="no sealed item lies in a target slice")]
    summed = Counts(*(sum(getattr(c, name) for _, c in present) for name in ("n", "lost", "gained", "both")))
    lost, gained = summed.thinned(design_effect)
    p = p_improved(lost, gained)
    level = standing.level(alpha) if standing.budget is not None else (alpha if level is None else level)
    words = f"sealed items of {len(present)} of {target_count} target(s) together better, exact McNemar p <= {level:g}"
    if design_effect > 1:
        words += f", counts divided by {design_effect:.2f} for items in several targets"
    words += f"; {standing.in_words}"
    conditions = present[0][0] if len(present) == 1 else ()
    agrees = _answer(SEALED_TARGET, conditions, summed, p=p, passed=p <= level and gained > lost, requirement=words)
    unharmed = _non_inferior(SEALED_ALL, (), everything, alpha=alpha, margin=margin)
    if standing.budget is None:
        return [agrees, unharmed]
    return [_withheld(answer) for answer in ([agrees, unharmed] if agrees.passed else [agrees])]


def resolution(counts: Counts, *, churn: float, alpha: float, slice_count: int, level: float | None = None) -> float:
    """The smallest loss, as a share, that a harmless candidate rules out with probability 1 - alpha / 2 slice_count.

    Harmless means: items flip both ways at the same rate, the churn. 1: no loss can be ruled out. level is that of the
    test which rules it out; alpha where it is not given.
    """
    if not counts.n:
        return 1.0
    mean = max(churn, 1 / counts.n) * counts.n
    worst = _difference_quantile(mean, tail=alpha / (2 * slice_count))
    gained = max(0, math.floor(mean - worst / 2))
    lost = min(counts.n - gained, gained + worst)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if p_not_inferior(lost, gained, n=counts.n, margin=middle) <= (alpha if level is None else level):
            high = middle
        else:
            low = middle
    return high


def _difference_quantile(mean: float, *, tail: float) -> int:
    """Smallest d with P(lost - gained > d) <= tail for two Poisson counts of this mean (Skellam 1946)."""
    if mean > _NORMAL_ABOVE:
        return math.ceil(float(ndtri(1 - tail)) * math.sqrt(2 * mean))
    support = np.arange(int(mean + 10 * math.sqrt(mean) + 20))
    pmf = np.exp(support * math.log(mean) - mean - gammaln(support + 1))
    above = np.cumsum(np.convolve(pmf, pmf[::-1])[::-1])[::-1]
    zero = len(support) - 1
    return int(np.argmax(above[zero + 1 :] <= tail))


def _undecidable(conditions: Conditions, counts: Counts, *, alpha: float, margin: float, limit: float) -> GateAnswer:
    points = f"undecidable at {margin * 100:.1f} points with n = {counts.n} outside the targets: "
    if limit >= 1 - 1e-6:
        words = points + "no loss can be told from a harmless change"
        return _answer(UNDECIDABLE, conditions, counts, p=1.0, passed=True, requirement=words)
    p = p_not_inferior(counts.lost, counts.gained, n=counts.n, margin=limit)
    words = points + f"only a loss of {limit * 100:.1f} points can be told from a harmless change; it must be ruled out"
    return _answer(
        UNDECIDABLE, conditions, counts, p=p, passed=p <= alpha, requirement=f"{words}, Tango p <= {alpha:g}"
    )


def _non_inferior(gate: str, conditions: Conditions, counts: Counts, *, alpha: float, margin: float) -> GateAnswer:
    if margin > 0:
        p = p_not_inferior(counts.lost, counts.gained, n=counts.n, margin=margin)
        where = " outside the targets" if conditions else ""
        words = f"a loss of {margin * 100:.1f} points ruled out{where}, Tango p <= {alpha:g}"
        return _answer(gate, conditions, counts, p=p, passed=p <= alpha, requirement=words)
    words = "margin 0: no item lost more than gained"
    return _answer(gate, conditions, counts, p=1.0, passed=counts.gained >= counts.lost, requirement=words)


def _answer(
    gate: str, conditions: Conditions, counts: Counts, *, p: float, passed: bool, requirement: str
) -> GateAnswer:
    low, high = paired_difference(counts.lost, counts.gained, n=counts.n) if counts.n else (-1.0, 1.0)
    return GateAnswer(gate, conditions, passed, counts.n, counts.before, counts.after, low, high, p, requirement)


def _withheld(answer: GateAnswer) -> GateAnswer:
    """Passed or not, without figures: what is not told cannot be learnt from."""
    words = f"{answer.requirement}; figures are withheld"
    return replace(answer, before=0.0, after=0.0, low=-1.0, high=1.0, p_value=1.0, requirement=words)


def _unmeasured(gate: str, *, passed: bool, why: str) -> GateAnswer:
    return GateAnswer(gate, (), passed, 0, 0.0, 0.0, -1.0, 1.0, 1.0, why)
