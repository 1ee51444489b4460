"""Which examples each step sees."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendloop.trainer.domain.schedule import Mixture, cut_to_limit, schedule


def test_replay_is_spread_so_that_no_step_is_off_by_more_than_one() -> None:
    mixture = Mixture(corpus_count=1000, batch_count=20, replay_share=0.7, batch_size=8, seed=1)

    steps = schedule(mixture, step_count=50)

    replayed = [sum(number < 1000 for number in step) for step in steps]
    assert all(len(step) == 8 for step in steps)
    assert sum(replayed) == 280  # 0.7 of 400
    assert set(replayed) == {5, 6}


@given(st.floats(0, 0.999), st.integers(1, 64), st.integers(1, 60))
def test_any_share_is_met_within_one_example_after_every_step(share: float, size: int, step_count: int) -> None:
    mixture = Mixture(corpus_count=7, batch_count=3, replay_share=share, batch_size=size, seed=0)
    replayed = 0
    for at, step in enumerate(schedule(mixture, step_count=step_count), start=1):
        replayed += sum(number < 7 for number in step)
        assert abs(replayed - float(mixture.corpus_share) * at * size) <= 1


def test_every_example_comes_once_before_any_comes_twice() -> None:
    mixture = Mixture(corpus_count=10, batch_count=0, replay_share=0.0, batch_size=4, seed=3)

    seen = [number for step in schedule(mixture, step_count=5) for number in step]

    assert Counter(seen) == dict.fromkeys(range(10), 2)
    assert sorted(seen[:10]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))


def test_a_longer_plan_begins_like_a_shorter_one_and_a_seed_gives_its_own_order() -> None:
    mixture = Mixture(corpus_count=30, batch_count=9, replay_share=0.5, batch_size=6, seed=3)
    other = Mixture(corpus_count=30, batch_count=9, replay_share=0.5, batch_size=6, seed=4)

    assert schedule(mixture, step_count=20)[:7] == schedule(mixture, step_count=7)
    assert schedule(mixture, step_count=7) != schedule(other, step_count=7)


def test_without_a_batch_the_replay_share_does_not_count() -> None:
    mixture = Mixture(corpus_count=5, batch_count=0, replay_share=0.2, batch_size=3, seed=0)

    assert all(number < 5 for step in schedule(mixture, step_count=4) for number in step)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"replay_share": 1.5}, "1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"replay_share": 1.0}, "none of the batch's 4 examples"),
        ({"corpus_count": 0}, "the corpus is empty"),
    ],
)
def test_an_impossible_mixture_is_refused_with_its_value(values: dict[str, float], names: str) -> None:
    good = {"corpus_count": 5, "batch_count": 4, "replay_share": 0.5, "batch_size": 2, "seed": 0}
    with pytest.raises(ValueError, match=names):
        Mixture(**{**good, **values})  # type: ignore[arg-type]


def test_a_token_limit_is_never_exceeded_and_says_what_fitted() -> None:
    cut = cut_to_limit([10, 10, 10], token_limit=29)

    assert (cut.step_count, cut.token_count) == (2, 20)
    assert "token limit 29" in cut.reason
    assert "2 of 3 steps" in cut.reason


@pytest.mark.parametrize("token_limit", [0, 30])
def test_no_limit_or_one_that_is_met_exactly_cuts_nothing(token_limit: int) -> None:
    assert cut_to_limit([10, 10, 10], token_limit=token_limit) == cut_to_limit([10, 10, 10], token_limit=10**9)
    assert cut_to_limit([10, 10, 10], token_limit=token_limit).reason == ""
