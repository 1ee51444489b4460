"""Short SCAN as a task family: grammar, scorers, hooks, and what can be planted in it; and the hooks of SCAN itself."""

from __future__ import annotations

import random

import pytest
from builders import item as item_of

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Item
from mendloop.core.task_hooks import Documented, Renewing, Rewording, Stepwise
from mendloop.core.tasks import find_task, matches
from mendloop.examples.faults.families.scan import WRAPPINGS, ScanFamily
from mendloop.examples.scan.grammar import interpret
from mendloop.examples.scan.short.grammar import SECOND_NAMES, plain_commands, read
from mendloop.examples.scan.short.task import ShortScanTask
from mendloop.examples.scan.task import ScanTask

TASK = ShortScanTask({})
FAMILY = ScanFamily()
ITEMS = FAMILY.items(0, count=480)
CORPUS = FAMILY.corpus(0)
HOOKS = (Rewording, Stepwise, Documented, Renewing)


def _values(item: Item) -> dict[str, set[str]]:
    return {axis: set(values) for axis, values in item.axes.items()}


@pytest.mark.parametrize("name", ["scan", "scan-short"])
def test_the_families_are_installed_with_every_hook(name: str) -> None:
    assert all(isinstance(find_task(name, {}), hook) for hook in HOOKS)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("hop left twice", "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP"),
        ("hop is I_RUN . hop after look", "I_LOOK I_RUN"),
        ("bax is I_WALK . bax twice", "I_WALK I_WALK"),
        ("lamp hop left", "I_TURN_LEFT pink I_JUMP pink ; answer pink"),
        ("leap doubly", "I_JUMP I_JUMP"),
    ],
)
def test_prompts_mean_what_they_say(prompt: str, answer: str) -> None:
    assert TASK.verify(prompt, answer)
    assert not TASK.verify(prompt, "I_LOOK")


@pytest.mark.parametrize("prompt", ["", "turn", "lamp", "bax left", "walk left left opposite", "3 plus 4"])
def test_what_is_no_command_verifies_nothing_of_its_own(prompt: str) -> None:
    request = read(prompt)
    assert request is None or request.prompt != prompt


def test_no_item_shares_its_plain_command_with_the_corpus() -> None:
    plain = {request.plain for row in CORPUS if (request := read(row.prompt))}
    asked = [request.plain for item in ITEMS if (request := read(item.prompt))]
    assert len(asked) == len(ITEMS) == 480
    assert not plain & set(asked)
    assert max(len(interpret(command).split()) for command in plain_commands()) == 6


def test_corpus_and_items_follow_from_the_seed_and_are_right() -> None:
    assert FAMILY.corpus(0) == CORPUS != FAMILY.corpus(1)
    assert FAMILY.items(0, count=480) == ITEMS != FAMILY.items(1, count=480)
    assert len({row.prompt for row in CORPUS}) == len(CORPUS) == 4000
    assert all(TASK.verify(row.prompt, row.completion) and TASK.annotate(row.prompt) == row.axes for row in CORPUS)


def test_scorers_read_the_answer_and_the_faulty_ones_something_else() -> None:
    for item in ITEMS[:60]:
        assert TASK.score(item, item.target).value == TASK.rescore(item, f"so: {item.target}").value == 1
        dropped, marker = (ShortScanTask({"scorer": s}).score(item, item.target) for s in ("drop_last", "marker"))
        assert (dropped.value, dropped.extraction) == (0, "drop_last")
        assert (marker.value, marker.extraction) == (0, "none")


def test_the_first_wrong_action_and_its_word_are_named() -> None:
    score = TASK.score(item_of(prompt="look left twice", target="unused"), "I_TURN_LEFT I_LOOK I_TURN_RIGHT I_LOOK")
    assert (score.first_wrong_step, score.wrong_operation) == (2, "twice")


def test_hooks_keep_the_answer() -> None:
    for item in ITEMS[:40]:
        assert "".join(TASK.worked_steps(item)) == item.target
        assert all(TASK.verify(text, item.target) and text != item.prompt for text in TASK.rewordings(item.prompt))
        assert TASK.verify(f"{TASK.background(item)} {item.prompt}".strip(), item.target)
        assert bool(TASK.background(item)) == bool(set(item.axes["verb"]) & set(SECOND_NAMES))
    twins = [(item, TASK.twin(item, seed=1)) for item in ITEMS[:20]]
    assert all(twin is None or (_values(twin) == _values(item) and twin.prompt != item.prompt) for item, twin in twins)
    assert sum(twin is not None for _, twin in twins) > 2


def test_unusual_words_and_wrapped_prompts_ask_the_same() -> None:
    said = {word for row in CORPUS for word in row.prompt.split()}
    for item in ITEMS[:60]:
        unusual = FAMILY.unusual(item.prompt)
        assert set(unusual.split()) - said
        for text in (unusual, *(FAMILY.wrapped(item.prompt, style=style) for style in range(len(WRAPPINGS)))):
            assert TASK.verify(text, item.target), text


def test_wrong_labels_are_wrong_and_bare_answers_right() -> None:
    rng = random.Random(0)
    for row in CORPUS[:300]:
        assert not TASK.verify(row.prompt, FAMILY.wrong_label(row, rng=rng).completion)
        bare = FAMILY.answer_only(row)
        assert TASK.verify(row.prompt, bare.completion)
        assert (bare == row) == (row.axes["kind"] == ("do",))


def test_places_have_examples_and_items_and_second_names_are_their_terms() -> None:
    for place in FAMILY.places(0):
        assert sum(matches(row.axes, place.conditions) for row in CORPUS) > 20, place
        assert sum(matches(item.axes, place.conditions) for item in ITEMS) > 15, place
        assert set(place.terms) <= set(SECOND_NAMES)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="scan-short"):
        ShortScanTask({"scorer": "best"})


def test_scan_itself_knows_other_words_its_steps_and_its_glossary() -> None:
    scan = ScanTask({})
    item = next(i for i in scan.items(counts={"search": 50}, seed=0) if i.axes["conjunction"] == ("after",))
    assert "".join(scan.worked_steps(item)) == item.target
    assert scan.rewordings("leap left twice") == ("jump left twice",)
    assert scan.rewordings(item.prompt) == ()
    assert scan.rewordings("leap to the moon") == ()
    assert "after is first what stands after it ." in scan.background(item)


def test_a_twin_of_scan_has_the_same_axes() -> None:
    scan = ScanTask({})
    items = scan.items(counts={"search": 50}, seed=0)
    twins = [(item, twin) for item in items if (twin := scan.twin(item, seed=0))]
    assert len(twins) > 25
    assert all(_values(twin) == _values(item) and twin.prompt != item.prompt for item, twin in twins)
