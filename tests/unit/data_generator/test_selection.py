from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from builders import example

from mendloop.core.records import Example
from mendloop.data_generator.domain.selection import Selection, ngrams
from mendloop.examples.scan.grammar import all_pairs, is_composed

CORPUS = [example(text) for text in ("walk left", "walk right", "run left", "run right", "jump")]


def texts(*prompts: str) -> list[Example]:
    return [example(prompt) for prompt in prompts]


def chosen(candidates: list[Example], *, count: int, seed: int = 0, corpus: list[Example] = CORPUS) -> list[str]:
    return [row.prompt for row in Selection(corpus).choose(candidates, count=count, seed=seed)]


def value_of(rows: list[Example], *, corpus: list[Example] = CORPUS) -> float:
    selection = Selection(corpus)
    selection.choose(rows, count=len(rows), seed=0)
    return selection.value()


def test_ngrams_are_words_pairs_and_triples_with_both_ends() -> None:
    assert set(ngrams("a b a")) == {"a", "b", "^ a", "a b", "b a", "a $", "^ a b", "a b a", "b a $"}


def test_what_the_corpus_lacks_is_chosen_before_what_it_is_full_of() -> None:
    assert chosen(texts("walk left", "jump left"), count=1) == ["jump left"]


def test_the_second_choice_adds_what_the_first_did_not_cover() -> None:
    picked = chosen(texts("jump left", "jump left twice", "skip right", "jump left thrice"), count=2)

    assert "skip right" in picked


def test_earlier_choices_count_for_later_calls() -> None:
    selection = Selection(CORPUS)
    selection.choose(texts("jump left"), count=1, seed=0)

    [second] = selection.choose(texts("jump left", "skip right"), count=1, seed=0)

    assert second.prompt == "skip right"


def test_the_choice_is_fixed_by_the_seed_and_not_by_the_order_of_equals() -> None:
    candidates = texts(*[f"verb{number} left" for number in range(50)])

    assert chosen(candidates, count=10, seed=1) == chosen(candidates, count=10, seed=1)
    assert chosen(candidates, count=10, seed=1) != chosen(candidates, count=10, seed=2)


def test_everything_is_chosen_where_less_is_there_than_asked_for() -> None:
    assert sorted(chosen(texts("b", "a"), count=5)) == ["a", "b"]
    assert chosen([], count=5) == []
    assert chosen(texts("a"), count=0) == []


@pytest.mark.parametrize("count", [1, 7, 64, 200, 333])
def test_every_length_has_its_share_of_the_candidates(count: int) -> None:
    rng = random.Random(count)
    candidates = texts(*{" ".join(rng.choices("abcdefghij", k=rng.randint(1, 9))) for _ in range(500)})
    sizes = Counter(len(row.prompt.split()) for row in candidates)

    picked = Counter(len(prompt.split()) for prompt in chosen(candidates, count=count))

    wanted = min(count, len(candidates))
    assert picked.total() == wanted
    assert all(abs(picked[words] - wanted * size / len(candidates)) < 1 for words, size in sizes.items())


def test_greedy_choice_keeps_its_guarantee() -> None:
    rng = random.Random(4)
    for _ in range(20):
        candidates = texts(*{" ".join(rng.choices("abcde", k=4)) for _ in range(9)})
        best = max(value_of(list(rows)) for rows in itertools.combinations(candidates, 3))

        reached = value_of(Selection(CORPUS).choose(candidates, count=3, seed=0))

        assert reached >= (1 - 1 / 2.718281828) * best  # all candidates have one length: the quota binds nothing


def test_lazy_choice_is_the_same_as_choosing_anew_each_time() -> None:
    rng = random.Random(5)
    candidates = texts(*{" ".join(rng.choices("abcdefg", k=5)) for _ in range(60)})
    picked = Selection(CORPUS).choose(candidates, count=12, seed=3)

    for at in range(1, 12):
        best = max(value_of([*picked[:at], row]) for row in candidates if row not in picked[:at])
        assert value_of(picked[: at + 1]) == pytest.approx(best)


def test_chosen_commands_of_scan_cover_more_than_random_ones_of_the_same_lengths() -> None:
    pairs = all_pairs()
    corpus = [example(pair.command) for pair in pairs if not is_composed(pair.command, primitive="jump")]
    candidates = [example(pair.command) for pair in pairs if is_composed(pair.command, primitive="jump")]

    picked = Selection(corpus).choose(candidates, count=64, seed=0)

    by_chance = [value_of(random.Random(seed).sample(candidates, 64), corpus=corpus) for seed in range(3)]
    assert value_of(picked, corpus=corpus) > max(by_chance)
