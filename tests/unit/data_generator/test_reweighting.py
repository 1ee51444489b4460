from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from mendloop.data_generator.domain.reweighting import GroupDro, by_deficit, by_group_dro, resampled

COUNTS = {"easy": 800, "hard": 150, "noise": 50}


@dataclass
class Fixed:
    """Losses that training does not change."""

    proxy: Mapping[str, float]
    reference: Mapping[str, float]
    seen: list[Mapping[str, float]] = field(default_factory=list)

    def step(self, weights: Mapping[str, float]) -> Mapping[str, tuple[float, float]]:
        self.seen.append(dict(weights))
        return {group: (self.proxy[group], self.reference[group]) for group in self.proxy}


@dataclass
class Learner:
    """Each group's loss falls towards its floor as exp(-rate * what it was trained with)."""

    floors: Mapping[str, float]
    rates: Mapping[str, float]
    trained: dict[str, float] = field(default_factory=dict)

    def step(self, weights: Mapping[str, float]) -> Mapping[str, tuple[float, float]]:
        for group, weight in weights.items():
            self.trained[group] = self.trained.get(group, 0.0) + weight
        return {
            group: (floor + 3 * math.exp(-self.rates[group] * self.trained[group]), floor)
            for group, floor in self.floors.items()
        }


def test_weights_by_deficit_lie_between_the_corpus_and_the_deficits() -> None:
    deficits = {"hard": 30.0, "noise": 10.0}

    assert by_deficit(COUNTS, deficits, strength=0) == {"easy": 0.8, "hard": 0.15, "noise": 0.05}
    assert by_deficit(COUNTS, deficits, strength=1) == {"easy": 0.0, "hard": 0.75, "noise": 0.25}
    assert by_deficit(COUNTS, deficits, strength=0.5) == pytest.approx({"easy": 0.4, "hard": 0.45, "noise": 0.15})


def test_without_a_deficit_the_corpus_keeps_its_shares_and_an_empty_group_gets_nothing() -> None:
    assert by_deficit({**COUNTS, "gone": 0}, {"gone": 9.0}, strength=1) == {"easy": 0.8, "hard": 0.15, "noise": 0.05}


@pytest.mark.parametrize(("counts", "strength"), [({}, 0.5), ({"a": 0}, 0.5), (COUNTS, 1.5)])
def test_weights_of_nothing_and_an_impossible_strength_are_refused(counts: dict[str, int], strength: float) -> None:
    with pytest.raises(ValueError, match=r"no group|strength is"):
        by_deficit(counts, {}, strength=strength)


def test_equal_excess_leaves_group_dro_uniform() -> None:
    losses = Fixed({"a": 2.0, "b": 5.0}, {"a": 1.0, "b": 4.0})

    assert by_group_dro(["a", "b"], losses, settings=GroupDro(50)) == pytest.approx({"a": 0.5, "b": 0.5})


def test_one_step_of_group_dro_is_the_softmax_of_the_excess_with_the_uniform_mixed_in() -> None:
    losses = Fixed({"a": 3.0, "b": 1.0, "c": 0.5}, {"a": 1.0, "b": 0.5, "c": 2.0})

    weights = by_group_dro(["a", "b", "c"], losses, settings=GroupDro(1, step_size=0.7, smoothing=0.01))

    raised = [math.exp(0.7 * 2.0), math.exp(0.7 * 0.5), 1.0]  # a loss below the reference's is no excess
    expected = [0.99 * value / sum(raised) + 0.01 / 3 for value in raised]
    assert list(weights.values()) == pytest.approx(expected)
    assert losses.seen == [pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})]


def test_group_dro_gives_the_most_to_what_can_still_be_learnt_and_little_to_noise() -> None:
    learner = Learner(floors={"easy": 0.1, "hard": 0.5, "noise": 4.0}, rates={"easy": 2.0, "hard": 0.1, "noise": 2.0})

    weights = by_group_dro(["easy", "hard", "noise"], learner, settings=GroupDro(60))

    assert weights["hard"] > 0.6
    assert weights["noise"] == pytest.approx(weights["easy"], abs=0.02)  # noise is high in the reference too
    assert math.fsum(weights.values()) == pytest.approx(1)


def test_group_dro_survives_huge_losses_and_loses_no_group() -> None:
    weights = by_group_dro(["a", "b"], Fixed({"a": 5000.0, "b": 0.0}, {"a": 0.0, "b": 0.0}), settings=GroupDro(20))

    assert weights["b"] >= 0.0005
    assert weights["a"] > 0.95


@pytest.mark.parametrize("settings", [{"steps": 0}, {"steps": 1, "step_size": 0.0}, {"steps": 1, "smoothing": 1.0}])
def test_impossible_settings_of_group_dro_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="group DRO"):
        GroupDro(**settings)  # type: ignore[arg-type]


def test_a_resampled_corpus_has_its_size_and_the_shares_of_the_weights() -> None:
    rows = list(range(100))
    groups = ["a"] * 80 + ["b"] * 20

    drawn = resampled(rows, groups, {"a": 0.5, "b": 0.5}, seed=1)

    counts = Counter(groups[row] for row in drawn)
    times = Counter(drawn)
    assert counts == {"a": 50, "b": 50}
    assert {times[row] for row in rows[80:]} == {2, 3}
    assert max(times[row] for row in rows[:80]) == 1
    assert drawn == sorted(drawn) == resampled(rows, groups, {"a": 0.5, "b": 0.5}, seed=1)


def test_a_corpus_resampled_by_its_own_shares_is_the_corpus() -> None:
    rows = list("abcdefg")
    groups = ["x", "x", "y", "x", "z", "z", "x"]

    assert resampled(rows, groups, {"x": 4 / 7, "y": 1 / 7, "z": 2 / 7}, seed=3) == rows
