"""A judge's error is measured before its word counts; what it leaves is corrected, with honest intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mendloop.core.errors import Permanent
from mendloop.judging.error import (
    JudgeError,
    Labelled,
    Limits,
    admit,
    corrected_rate,
    measure_judge,
    measure_stability,
    rate,
)
from mendloop.judging.port import Choice, Judgement, Question, read_choice, read_judgement


def _question(at: int) -> Question:
    return Question("is polite", f"question {at}", f"answer {at}")


@dataclass
class Noisy:
    """Knows the truth (even numbers are met) and errs at the given rates; its noise comes from question and seed."""

    misses: float
    false_alarms: float
    silent: float = 0.0

    def judge(self, questions: Sequence[Question], *, seed: int = 0) -> list[Judgement]:
        return [self._one(question, seed) for question in questions]

    def _one(self, question: Question, seed: int) -> Judgement:
        rng = random.Random(f"{question.prompt}/{seed}")
        if rng.random() < self.silent:
            return Judgement(None, "hm")
        is_met = int(question.prompt.split()[1]) % 2 == 0
        errs = rng.random() < (self.misses if is_met else self.false_alarms)
        return Judgement(is_met != errs, "")


def _labelled(count: int) -> list[Labelled]:
    return [Labelled(_question(at), at % 2 == 0) for at in range(count)]


def test_both_error_rates_are_measured_with_their_n() -> None:
    error = measure_judge(Noisy(0.1, 0.3), _labelled(2000))

    assert error.sensitivity.value == pytest.approx(0.9, abs=0.03)
    assert error.specificity.value == pytest.approx(0.7, abs=0.05)
    assert error.sensitivity.n == error.specificity.n == 1000
    assert error.sensitivity.interval.low < 0.9 < error.sensitivity.interval.high


def test_silence_counts_as_wrong_on_both_sides() -> None:
    error = measure_judge(Noisy(0.0, 0.0, silent=1.0), _labelled(20))

    assert (error.sensitivity.value, error.specificity.value, error.unanswered_count) == (0.0, 0.0, 20)


@pytest.mark.parametrize(
    ("judge", "count", "said"),
    [
        (Noisy(0.4, 0.0), 400, "sensitivity is 0"),
        (Noisy(0.0, 0.4), 400, "specificity is 0"),
        (Noisy(0.0, 0.0), 40, "is measured on 20 labelled items"),
    ],
)
def test_a_judge_that_errs_too_much_or_was_hardly_measured_is_refused(judge: Noisy, count: int, said: str) -> None:
    with pytest.raises(Permanent, match=said):
        admit(measure_judge(judge, _labelled(count)))


def test_a_good_judge_is_admitted() -> None:
    admit(measure_judge(Noisy(0.05, 0.05), _labelled(400)), limits=Limits(0.85, 0.85))


def test_the_corrected_rate_covers_the_truth_where_the_raw_rate_does_not() -> None:
    truth, covered, raw_covered, worlds = 0.1, 0, 0, 300
    for world in range(worlds):
        rng = random.Random(world)

        def accepted(n: int, share: float, rng: random.Random = rng) -> int:
            return sum(rng.random() < share for _ in range(n))

        error = JudgeError(rate(accepted(200, 0.9), 200), rate(accepted(200, 0.8), 200), 0)
        seen = accepted(500, truth * 0.9 + (1 - truth) * 0.2)
        found = corrected_rate(seen, 500, error=error)
        covered += found.interval.low <= truth <= found.interval.high
        raw = rate(seen, 500).interval
        raw_covered += raw.low <= truth <= raw.high

    assert covered / worlds >= 0.95
    assert raw_covered == 0


def test_a_judge_that_knows_nothing_corrects_nothing() -> None:
    with pytest.raises(ValueError, match="nothing can be corrected"):
        corrected_rate(5, 10, error=JudgeError(rate(5, 10), rate(5, 10), 0))


def test_self_consistency_and_position_bias_are_measured() -> None:
    class PrefersFirst:
        def prefer(self, questions: Sequence[tuple[Question, Question]]) -> list[Choice | None]:
            return ["first" if at % 4 else ("first" if one.prompt < other.prompt else "second")
                    for at, (one, other) in enumerate(questions)]  # fmt: skip

    questions = [_question(at) for at in range(1000, 1400)]
    pairs = list(zip(questions[:200], questions[200:], strict=True))

    steady = measure_stability(Noisy(0.0, 0.0), questions, pairs=pairs, pair_judge=PrefersFirst())
    shaky = measure_stability(Noisy(0.2, 0.2), questions)

    assert steady.self_agreement.value == 1.0
    assert shaky.self_agreement.value == pytest.approx(0.8**3 + 0.2**3, abs=0.08)
    assert steady.swap_agreement is not None
    assert steady.first_share is not None
    assert (steady.swap_agreement.value, steady.first_share.value) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("said", "is_met"), [(" Yes.", True), ("no", False), ("Yes or No", None), ("", None), ("Nothing", None)]
)
def test_a_verdict_is_read_or_counted_as_none(said: str, is_met: bool | None) -> None:
    assert read_judgement(said).is_met is is_met


@pytest.mark.parametrize(
    ("said", "choice"), [(" A", "first"), ("B.", "second"), ("tie", "tie"), ("A or B", None), ("a", None)]
)
def test_a_preference_is_read_or_none(said: str, choice: Choice | None) -> None:
    assert read_choice(said) == choice
