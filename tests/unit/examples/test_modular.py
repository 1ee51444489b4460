"""Modular arithmetic as a task family: grammar, scorers, hooks, and what can be planted in it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mendloop.core.errors import InvalidRecipe
from mendloop.core.task_hooks import Documented, Renewing, Rewording, Stepwise
from mendloop.core.tasks import find_task, matches
from mendloop.examples.faults.families.modular import WRAPPINGS, ModularFamily
from mendloop.examples.modular.drawing import is_held_out
from mendloop.examples.modular.grammar import CONSTANTS, Question, completion, read, solve
from mendloop.examples.modular.task import ModularTask

TASK = ModularTask({})
FAMILY = ModularFamily()
ITEMS = FAMILY.items(0, count=480)
CORPUS = FAMILY.corpus(0)


def test_the_family_is_installed_with_every_hook() -> None:
    task = find_task("modular", {})
    assert all(isinstance(task, hook) for hook in (Rewording, Stepwise, Documented, Renewing))


def test_questions_are_worked_from_left_to_right() -> None:
    question = Question(("3", "zel", "2"), ("plus", "times"), "compute")
    assert question.prompt == "compute 3 plus zel times 2"
    assert completion(solve(question)) == "3 plus 3 is 6 ; 6 times 2 is 5 ; answer 5"


def test_a_stated_value_comes_before_that_of_memory() -> None:
    assert TASK.verify("zel is 1 . compute 3 plus zel", "answer 4")
    assert TASK.verify("compute 3 plus zel", "answer 6")


@pytest.mark.parametrize("prompt", ["", "compute", "compute 3 plus", "jump left", "compute 3 plus ba"])
def test_what_is_no_question_has_no_axes_and_verifies_nothing(prompt: str) -> None:
    assert TASK.annotate(prompt) == {}
    assert not TASK.verify(prompt, "answer 3")


def test_no_item_shares_its_expression_with_the_corpus() -> None:
    expressions = {question.expression for row in CORPUS if (question := read(row.prompt))}
    asked = [read(item.prompt) for item in ITEMS]
    assert not any(question is None or question.expression in expressions for question in asked)
    assert all(question and is_held_out(question) for question in asked)


def test_corpus_and_items_follow_from_the_seed_and_are_right() -> None:
    assert FAMILY.corpus(0) == CORPUS != FAMILY.corpus(1)
    assert FAMILY.items(0, count=480) == ITEMS != FAMILY.items(1, count=480)
    assert len({row.prompt for row in CORPUS}) == len(CORPUS) == 4000
    assert all(TASK.verify(row.prompt, row.completion) and TASK.annotate(row.prompt) == row.axes for row in CORPUS)


def test_scorers_read_the_answer_and_the_faulty_ones_something_else() -> None:
    item = next(row for row in ITEMS if row.target[0] != row.target[-1] and row.axes["depth"] == ("2",))
    assert TASK.score(item, item.target).value == 1
    first, marker = (ModularTask({"scorer": name}).score(item, item.target) for name in ("first", "marker"))
    assert (first.value, first.extraction) == (0, "first")
    assert (marker.value, marker.extraction) == (0, "none")
    assert TASK.rescore(item, f"It is {item.target[-1]}.").value == 1


def test_the_first_wrong_step_and_its_operation_are_named() -> None:
    item = next(row for row in ITEMS if row.axes["depth"] == ("2",))
    first, *_ = TASK.worked_steps(item)
    score = TASK.score(item, f"{first}9 {item.axes['last'][0]} 9 is 9 ; answer 9")
    assert (score.first_wrong_step, score.wrong_operation) == (1, item.axes["last"][0])


def test_hooks_keep_the_answer() -> None:
    for item in ITEMS[:60]:
        assert "".join(TASK.worked_steps(item)) == item.target
        assert all(TASK.verify(text, item.target) and text != item.prompt for text in TASK.rewordings(item.prompt))
        assert TASK.verify(f"{TASK.background(item)} {item.prompt}", item.target)
        assert bool(TASK.background(item)) == (item.axes["operand"] == ("name",))


def test_most_twins_differ_only_in_tables() -> None:
    twins = [(item, twin) for item in ITEMS[:60] if (twin := TASK.twin(item, seed=1))]
    assert len(twins) > 40
    for item, twin in twins:
        assert twin.prompt != item.prompt
        assert all(set(twin.axes[axis]) == set(item.axes[axis]) for axis in item.axes if axis != "table")


def test_unusual_words_and_wrapped_prompts_ask_the_same() -> None:
    said = {word for row in CORPUS for word in row.prompt.split()}
    for item in ITEMS[:60]:
        unusual = FAMILY.unusual(item.prompt)
        assert set(unusual.split()) - said
        assert TASK.annotate(unusual)["wording"] == ("unusual",)
        for text in (unusual, *(FAMILY.wrapped(item.prompt, style=style) for style in range(len(WRAPPINGS)))):
            assert TASK.verify(text, item.target), text


def test_wrong_labels_are_wrong_and_bare_answers_right() -> None:
    rng = random.Random(0)
    for row in CORPUS[:300]:
        assert not TASK.verify(row.prompt, FAMILY.wrong_label(row, rng=rng).completion)
        bare = FAMILY.answer_only(row)
        assert "is" not in bare.completion.split()
        assert TASK.verify(row.prompt, bare.completion)


def test_places_have_examples_and_items_and_constants_are_their_terms() -> None:
    for place in FAMILY.places(0):
        assert sum(matches(row.axes, place.conditions) for row in CORPUS) > 20, place
        assert sum(matches(item.axes, place.conditions) for item in ITEMS) > 15, place
        assert set(place.terms) <= set(CONSTANTS)


def test_taught_examples_lie_in_the_slice_and_are_no_items() -> None:
    conditions = (("table", "star 4"), ("depth", "2"))
    taught = [row for row, _ in zip(TASK.teach(conditions, seed=0), range(20), strict=False)]
    assert len(taught) == 20
    assert all(matches(row.axes, conditions) for row in taught)
    assert not {row.prompt for row in taught} & {item.prompt for item in ITEMS}


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="modular"):
        ModularTask({"scorer": "best"})
    with pytest.raises(InvalidRecipe, match="lower search"):
        TASK.items(counts={"search": 100_000}, seed=0)


def test_a_question_with_too_few_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="one term more"):
        replace(Question(("1", "2"), ("plus",), "compute"), terms=("1",))
