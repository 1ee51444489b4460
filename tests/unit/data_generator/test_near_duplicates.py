from __future__ import annotations

import pytest
from builders import example

from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.examples.scan.grammar import all_pairs, is_composed
from mendloop.passes.texts import similarity

STORY = (
    "A farmer drives to the market on Monday with forty baskets of apples, sells half of them before noon, gives "
    "three baskets to a neighbour, and drives home in the evening with what is left in the cart. How many baskets "
    "does the farmer bring home?"
)


def index_of(*prompts: str, completion: str = "17") -> MinHashIndex:
    index = MinHashIndex()
    index.add([example(prompt, completion=completion) for prompt in prompts])
    return index


def test_an_empty_index_holds_nothing() -> None:
    assert not MinHashIndex().holds_like(example())


@pytest.mark.parametrize(
    "prompt",
    [STORY, STORY.upper(), STORY.rstrip("?"), STORY.replace("evening", "afternoon"), STORY.replace("  ", " ") + " "],
)
def test_a_long_text_with_a_small_change_and_the_same_answer_is_a_near_duplicate(prompt: str) -> None:
    assert index_of("something else", STORY).holds_like(example(prompt, completion=" 17 "))


def test_a_small_change_that_changes_the_answer_is_another_question() -> None:
    changed = STORY.replace("three", "five")

    assert similarity(STORY, changed) > 0.8
    assert not index_of(STORY).holds_like(example(changed, completion="15"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jump left", "jump right"),
        ("jump twice and walk", "walk and jump twice"),
        ("is 7 prime?", "is 8 prime?"),
        ("the dog bit the man", "the man bit the dog"),
    ],
)
def test_short_texts_of_different_meaning_are_not_alike_even_with_one_answer(one: str, other: str) -> None:
    assert not index_of(one).holds_like(example(other))


def test_no_composed_jump_command_of_scan_is_like_another() -> None:
    pairs = [pair for pair in all_pairs() if is_composed(pair.command, primitive="jump")][::4]
    index = MinHashIndex()

    dropped = 0
    for pair in pairs:
        candidate = example(pair.command, completion=pair.actions)
        dropped += index.holds_like(candidate)
        index.add([candidate])

    assert (len(pairs), dropped) == (1927, 0)


@pytest.mark.parametrize("text", ["", " ", "?", "one", "日本語", "\x00"])
def test_texts_without_words_are_compared_too(text: str) -> None:
    assert similarity(text, text) == 1.0
