from __future__ import annotations

import numpy as np
import pytest

from mendloop.passes.hashing import min_hashes, runs
from mendloop.passes.texts import SHINGLE_WORDS, padded_words, shingles, similarity


def test_runs_of_words_are_hashed_by_their_words_and_order_alone() -> None:
    found = runs([["a", "b", "c", "d"], ["b", "c", "d"], ["d", "c", "b"], ["c"]], length=3)

    assert found.of(0)[1] == found.of(1)[0]
    assert found.of(2)[0] not in found.of(0)
    assert [len(found.of(at)) for at in range(4)] == [2, 1, 1, 0]


def test_hashes_are_the_same_on_every_machine() -> None:
    assert runs([["one", "two", "three"]], length=3).hashes.tolist() == [GOLDEN]


def test_as_many_distinct_hashes_as_distinct_trigrams() -> None:
    text = "walk left twice and walk left twice and jump"

    assert len(set(runs([padded_words(text)], length=SHINGLE_WORDS).of(0).tolist())) == len(shingles(text))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_equal_min_hashes_estimates_the_jaccard_similarity(share: float) -> None:
    shared = round(400 * share)
    left = [f"w{at}" for at in range(400)]
    right = [*left[:shared], *(f"v{at}" for at in range(400 - shared))]
    exact = shared / (800 - shared)

    rows = min_hashes(runs([left, right], length=1), permutations=2_000)

    estimate = float(np.mean(rows[0] == rows[1]))
    assert estimate == pytest.approx(exact, abs=3 * (exact * (1 - exact) / 2_000) ** 0.5)


def test_a_text_without_words_is_like_another_only() -> None:
    assert similarity("", "...") == 1.0
    assert similarity("", "a") < 1.0


GOLDEN = 0x6D5B0E7F2207B69E
