"""Owns how wrong a judge is: sensitivity and specificity on labelled items, the rate that they leave, and stability.

Knows judgements and labels; knows no model. A judge whose error is not measured, or too large, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mendloop.core.errors import Permanent
from mendloop.core.stats import Interval, clopper_pearson
from mendloop.judging.port import Choice, Judge, Judgement, PairJudge, Question


class Rate(NamedTuple):
    """A proportion with its n and exact 95 % interval."""

    value: float
    n: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question whose right judgement is known."""

    question: Question
    is_met: bool


@dataclass(frozen=True, slots=True)
class JudgeError:
    """What was measured. A judgement without answer counts as wrong in both rates.

    sensitivity: share of the items that satisfy the criterion which the judge accepts; specificity: share of the
    others which it rejects. held_back: share of those others that it does not accept, silence included: what a score
    makes of its words, and what an observed rate is corrected by.
    """

    sensitivity: Rate
    specificity: Rate
    unanswered_count: int
    held_back: Rate | None = None

    @property
    def informedness(self) -> float:
        """Youden's J = sensitivity + specificity - 1: 0 for a judge that knows nothing, 1 for a perfect one."""
        return self.sensitivity.value + self.specificity.value - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a judge must reach: the lower bounds of both intervals, on at least so many items of each kind."""

    sensitivity: float = 0.8
    specificity: float = 0.8
    items_of_each: int = 30


class Corrected(NamedTuple):
    """The true rate that an observed one stands for; observed is what the judge said."""

    value: float
    interval: Interval
    observed: float
    n: int


def rate(count: int, n: int) -> Rate:
    """A proportion with its interval; 0 of 0 has the interval 0..1."""
    return Rate(count / n if n else 0.0, n, clopper_pearson(count, n))


def measure_judge(judge: Judge, labelled: Sequence[Labelled]) -> JudgeError:
    """Lets the judge judge labelled items. Raises ValueError where an answer is missing for an item."""
    answers = judge.judge([one.question for one in labelled])
    if len(answers) != len(labelled):
        raise ValueError(f"the judge gave {len(answers)} judgements for {len(labelled)} questions")
    good = [answer for one, answer in zip(labelled, answers, strict=True) if one.is_met]
    bad = [answer for one, answer in zip(labelled, answers, strict=True) if not one.is_met]
    return JudgeError(
        sensitivity=rate(sum(answer.is_met is True for answer in good), len(good)),
        specificity=rate(sum(answer.is_met is False for answer in bad), len(bad)),
        unanswered_count=sum(answer.is_met is None for answer in answers),
        held_back=rate(sum(answer.is_met is not True for answer in bad), len(bad)),
    )


def admit(error: JudgeError, *, limits: Limits | None = None) -> None:
    """Raises Permanent, with the figures, where a judge may not score."""
    limits = limits or Limits()
    for name, found, least in (
        ("sensitivity", error.sensitivity, limits.sensitivity),
        ("specificity", error.specificity, limits.specificity),
    ):
        if found.n < limits.items_of_each:
            raise Permanent(
                f"the judge's {name} is measured on {found.n} labelled items; label at least {limits.items_of_each}"
            )
        if found.interval.low < least:
            raise Permanent(
                f"the judge's {name} is {found.value:.3f} (95 % interval {found.interval.low:.3f} to"
                f" {found.interval.high:.3f}, n = {found.n}); its lower bound must be at least {least}: take another"
                " judge or another wording, or label more items"
            )


def admit_stable(stability: Stability, *, self_agreement: float, swap_agreement: float) -> tuple[str, ...]:
    """What is doubtful, in words. Raises Permanent, with the figures, for a judge that contradicts itself.

    Both bounds hold for the lower end of the interval. Preferences that follow the place are told, and no more: a
    score asks about one output, where there is no second place.
    """
    own = stability.self_agreement
    if own.interval.low < self_agreement:
        raise Permanent(
            f"the judge agrees with itself on {own.value:.3f} of {own.n} questions (95 % interval"
            f" {own.interval.low:.3f} to {own.interval.high:.3f}); its lower bound must be at least {self_agreement}:"
            " take another judge or another wording, lower its temperature, or label more items"
        )
    swap, first = stability.swap_agreement, stability.first_share
    if swap is None or swap.interval.low >= swap_agreement:
        return ()
    return (
        f"its preference follows the answers in {swap.value:.0%} of {swap.n} pairs that changed places"
        + (f", and the first place in {first.value:.0%} of the others" if first and first.n else ""),
    )


def corrected_rate(accepted: int, n: int, *, error: JudgeError) -> Corrected:
    """The true rate behind a judge's rate (Rogan & Gladen 1978, Am. J. Epidemiol. 107:71), cut to 0..1.

    The interval is conservative: each of the three rates is at its own bound of level 0.05 / 3 (Bonferroni), and the
    corrected rate is monotone in each. Raises ValueError for a judge that knows nothing (J <= 0).
    """
    if error.informedness <= 0:
        raise ValueError(f"sensitivity + specificity - 1 is {error.informedness:.3f}; nothing can be corrected by it")
    observed = accepted / n if n else 0.0
    confidence = 1 - 0.05 / 3
    seen = clopper_pearson(accepted, n, confidence=confidence)
    specificity = error.held_back or error.specificity
    yes, no = (
        clopper_pearson(round(r.value * r.n), r.n, confidence=confidence) for r in (error.sensitivity, specificity)
    )
    value = _rogan_gladen(observed, error.sensitivity.value, specificity.value)
    low = _rogan_gladen(seen.low, yes.high, no.low)
    high = _rogan_gladen(seen.high, yes.low, no.high)
    return Corrected(value, Interval(min(low, value), max(high, value)), observed, n)


@dataclass(frozen=True, slots=True)
class Stability:
    """Whether a judge agrees with itself.

    self_agreement: share of questions that got the same answer under every seed. swap_agreement: share of pairs whose
    preference follows the answers when they change places. first_share: of the pairs that do not, how many prefer the
    first place both times.
    """

    self_agreement: Rate
    swap_agreement: Rate | None = None
    first_share: Rate | None = None


def measure_stability(
    judge: Judge,
    questions: Sequence[Question],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    pairs: Sequence[tuple[Question, Question]] = (),
    pair_judge: PairJudge | None = None,
) -> Stability:
    """Asks the same again under other seeds, and the same pairs in the other order."""
    rounds: list[list[Judgement]] = [judge.judge(questions, seed=seed) for seed in seeds]
    same = sum(len({answer.is_met for answer in answers}) == 1 for answers in zip(*rounds, strict=True))
    agreement = rate(same, len(questions))
    if pair_judge is None or not pairs:
        return Stability(agreement)
    forth = pair_judge.prefer(pairs)
    back = pair_judge.prefer([(second, first) for first, second in pairs])
    turned: dict[Choice | None, Choice | None] = {"first": "second", "second": "first", "tie": "tie"}
    kept = [one is not None and turned.get(other) == one for one, other in zip(forth, back, strict=True)]
    unstable = [(one, other) for one, other, is_kept in zip(forth, back, kept, strict=True) if not is_kept]
    return Stability(
        agreement,
        rate(sum(kept), len(pairs)),
        rate(sum(pair == ("first", "first") for pair in unstable), len(unstable)),
    )


def _rogan_gladen(observed: float, sensitivity: float, specificity: float) -> float:
    divisor = sensitivity + specificity - 1
    if divisor <= 0:
        return 1.0 if observed + specificity - 1 > 0 else 0.0
    return min(1.0, max(0.0, (observed + specificity - 1) / divisor))
