"""Writing prompts as the corpus does: what is undone, what is left alone, and what that shows about failed items."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diagnosis_cases import GREEN, ToyModel, all_items, answer_of, case_of, corpus_of, wrong_on
from probe_models import CONFUSED, rows_of, values

from mendloop.core.records import Item
from mendloop.core.tasks import matches
from mendloop.diagnostician.adapters.probes.reformat import Reformat
from mendloop.diagnostician.domain.writing import Wrapper, common_wrapper, respelt, writing_of

CORPUS = ("jump twice", "walk left and run", "look", "what is 3 + 14 ?", "in Paris")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("JUMP Twice.", "jump twice"),
        ("jump_twice", "jump twice"),
        ("jumptwice", "jump twice"),
        ("j u m p  t w i c e", "jump twice"),
        ("what is 3+14?", "what is 3 + 14 ?"),
        ("what is 143 ?", "what is 143 ?"),
        ("IN paris", "in Paris"),
        ("walk   left\\nand run", "walk left and run"),
        ("hop twice", "hop twice"),
    ],
)
def test_words_are_written_as_in_the_corpus(prompt: str, expected: str) -> None:
    assert " ".join(respelt(writing_of(CORPUS), prompt.replace("\\n", "\n"))) == expected


def test_numbers_are_split_where_the_corpus_writes_digits() -> None:
    assert respelt(writing_of(["1 2 + 3"]), "21+3") == ("2", "1", "+", "3")


def test_a_wrapper_is_what_many_prompts_share_and_the_corpus_never_has() -> None:
    writing = writing_of(["walk left", "run", "jump twice", "jump and walk"])
    prompts = [tuple(f"please walk me through : {text} , now".split()) for text in ("run", "jump twice", "walk left")]
    assert common_wrapper(writing, prompts) == Wrapper(("please", "walk", "me", "through", ":"), (",", "now"))


def test_words_of_the_corpus_are_no_wrapper() -> None:
    writing = writing_of(["walk left", "run", "jump twice", "jump and walk"])
    assert common_wrapper(writing, [("jump", "and", "walk"), ("jump", "and", "run"), ("run",)]) == Wrapper()


def _plain_only(prompt: str) -> str:
    is_plain = prompt.startswith("take ") and prompt == prompt.lower() and prompt.split()[-1] != "now"
    return answer_of(prompt) if is_plain else CONFUSED


def _wrapped(pattern: str) -> list[Item]:
    return [
        Item(row.item_id, pattern.format(row.prompt), row.target, row.split, axes=row.axes)
        if matches(row.axes, GREEN)
        else row
        for row in all_items()
    ]


def test_a_wrapper_around_the_slices_prompts_is_named_and_undone() -> None:
    case = case_of(ToyModel(answers=_plain_only), items=_wrapped("Task: please {} right now"))
    assert values(Reformat(), case, "rescued_share", "passing_broken_share") == [1, 0]
    reading = rows_of(Reformat(), case)["rescued_share", "a"].reading
    assert "become right without 'Task: please' before the prompt and without 'right now' after the prompt" in reading


def test_case_is_named_and_undone() -> None:
    items = [Item(row.item_id, row.prompt.upper(), row.target, row.split, axes=row.axes) for row in all_items()]
    case = case_of(ToyModel(answers=_plain_only), items=items)
    assert values(Reformat(), case, "rescued_share") == [1]
    assert "'TAKE' as 'take'" in rows_of(Reformat(), case)["rescued_share", "a"].reading


def test_letters_with_spaces_between_them_are_named_as_a_whole() -> None:
    items = [replace(row, prompt=" ".join(row.prompt.replace(" ", ""))) for row in all_items()]
    case = case_of(ToyModel(answers=_plain_only), items=items)
    assert values(Reformat(), case, "rescued_share") == [1]
    assert "'t a k e t h i n g" in rows_of(Reformat(), case)["rescued_share", "a"].reading


def test_missing_data_is_no_format() -> None:
    model = ToyModel(answers=wrong_on("green"))
    case = case_of(model, corpus=corpus_of(per_colour={"green": 0}))
    rows = rows_of(Reformat(), case)
    assert (rows["rescued_share", "a"].value, rows["rescued_share", "a"].n) == (0, 20)
    assert "nothing in their prompts is written otherwise" in rows["rescued_share", "a"].reading
    assert not model.prompts, "nothing to undo costs nothing"


def test_without_a_corpus_no_format_is_known() -> None:
    rows = rows_of(Reformat(), case_of(ToyModel(answers=wrong_on("green")), corpus=[]))
    assert {row.n for row in rows.values()} == {0}
