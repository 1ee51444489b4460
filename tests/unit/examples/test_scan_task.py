"""SCAN as a task family: axes, disjoint items, scorers, verifier, teacher, options."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
from builders import item

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import fingerprint
from mendloop.core.tasks import find_task
from mendloop.examples.scan.axes import AXES
from mendloop.examples.scan.grammar import PRIMITIVES, is_composed
from mendloop.examples.scan.task import ScanTask

COUNTS = {"search": 300, "confirm": 150, "sealed": 150}
TASK = ScanTask({})


def test_the_family_is_installed_under_its_name() -> None:
    assert isinstance(find_task("scan", {"domain": "in_distribution"}), ScanTask)


def test_a_process_that_loads_the_task_loads_no_torch() -> None:
    code = "import sys, mendloop.examples.scan.task; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("command", "axes"),
    [
        (
            "jump around left twice and walk",
            {
                "verb": ("jump", "walk"),
                "direction": ("left", "none"),
                "manner": ("around", "none"),
                "repetition": ("twice", "none"),
                "conjunction": ("and",),
                "length": ("14-20",),
            },
        ),
        (
            "turn opposite right thrice",
            {
                "verb": ("turn",),
                "direction": ("right",),
                "manner": ("opposite",),
                "repetition": ("thrice",),
                "conjunction": ("none",),
                "length": ("1-7",),
            },
        ),
        (
            "look left after look left",
            {
                "verb": ("look",),
                "direction": ("left",),
                "manner": ("none",),
                "repetition": ("none",),
                "conjunction": ("after",),
                "length": ("1-7",),
            },
        ),
        ("fly to the moon", {}),
        ("turn", {}),
    ],
)
def test_axes_are_read_from_the_words(command: str, axes: dict[str, tuple[str, ...]]) -> None:
    assert TASK.annotate(command) == axes


def test_items_are_as_many_as_asked_disjoint_and_right() -> None:
    items = TASK.items(counts=COUNTS, seed=1)
    assert Counter(i.split for i in items) == COUNTS
    assert len({fingerprint(i.prompt) for i in items}) == len({i.item_id for i in items}) == 600
    assert all(TASK.verify(i.prompt, i.target) and set(i.axes) == set(AXES) for i in items)


def test_items_depend_on_the_seed_alone_and_their_ids_on_the_prompt_alone() -> None:
    first, again, other = (TASK.items(counts=COUNTS, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert [i.prompt for i in first] != [i.prompt for i in other]
    ids = {i.prompt: i.item_id for i in first}
    shared = [i for i in other if i.prompt in ids]
    assert shared
    assert all(ids[i.prompt] == i.item_id for i in shared)


def test_every_axis_value_has_items_in_every_split() -> None:
    items = TASK.items(counts={"search": 600, "confirm": 300, "sealed": 300}, seed=0)
    for split in ("search", "confirm", "sealed"):
        count = Counter((axis, value) for i in items if i.split == split for axis in AXES for value in i.axes[axis])
        single_phrases = count.pop(("conjunction", "none"))
        assert single_phrases >= 8, "98 commands have one phrase: at most a third of them become items"
        assert min(count.values()) >= 40


def test_rare_values_are_never_used_up() -> None:
    items = TASK.items(counts={"search": 5000, "confirm": 2000, "sealed": 20}, seed=0)
    assert sum(i.axes["conjunction"] == ("none",) for i in items) < 60


def test_bare_primitives_are_never_items() -> None:
    counts = {"search": 13_200, "confirm": 0, "sealed": 0}
    items = ScanTask({"domain": "in_distribution"}).items(counts=counts, seed=0)
    assert not {i.prompt for i in items} & set(PRIMITIVES)


def test_in_distribution_items_have_no_composed_jump_and_the_whole_grammar_has() -> None:
    inside = ScanTask({"domain": "in_distribution"}).items(counts=COUNTS, seed=3)
    assert not any(is_composed(i.prompt, primitive="jump") for i in inside)
    composed = sum(is_composed(i.prompt, primitive="jump") for i in TASK.items(counts=COUNTS, seed=3))
    assert 150 < composed < 300, "37 % of the grammar composes jump"


def test_more_items_than_commands_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="asks for 30000 items, the domain has 20906"):
        TASK.items(counts={"search": 30_000}, seed=0)


def test_corpus_is_the_training_part_of_the_split_each_pair_once() -> None:
    corpus = TASK.corpus({"split": "add_prim_jump"})
    assert len(corpus) == len({e.prompt for e in corpus}) == 13_204
    assert [e.prompt for e in corpus if "jump" in e.prompt.split()] == ["jump"]
    assert all(e.source == "corpus" for e in corpus)


def test_the_bare_primitive_can_be_repeated() -> None:
    corpus = TASK.corpus({"split": "add_prim_jump", "repeat_primitive": 1467})
    assert sum(e.prompt == "jump" for e in corpus) == 1467
    assert len(corpus) == 13_203 + 1467
    assert len(TASK.corpus({"split": "all"})) == 20_910


def test_pool_is_a_random_share_of_what_it_may_hold() -> None:
    pool = TASK.pool({"share": 0.02, "seed": 5})
    assert len(pool) == len({e.prompt for e in pool}) == 418
    assert pool == TASK.pool({"share": 0.02, "seed": 5}) != TASK.pool({"share": 0.02, "seed": 6})
    assert all(TASK.verify(e.prompt, e.completion) for e in pool)
    outside = TASK.pool({"share": 0.02, "outside": "add_prim_jump"})
    assert len(outside) == 154
    assert all(is_composed(e.prompt, primitive="jump") for e in outside)


def test_score_is_exact_but_for_white_space() -> None:
    asked = item(target="I_JUMP I_JUMP")
    assert TASK.score(asked, "  I_JUMP\n I_JUMP ").value == 1
    assert TASK.score(asked, "I_JUMP I_JUMP I_JUMP").value == 0
    assert TASK.score(asked, "i_jump i_jump").value == 0
    assert TASK.score(asked, "").value == 0


def test_prompt_outside_the_grammar_is_scored_without_steps() -> None:
    score = TASK.score(item(prompt="fly twice", target="I_FLY I_FLY"), "I_FLY")
    assert (score.value, score.first_wrong_step, score.wrong_operation) == (0, None, "")


@pytest.mark.parametrize(
    ("output", "step", "operation"),
    [
        ("I_JUMP I_LOOK", 1, "twice"),
        ("I_JUMP", 1, "twice"),
        ("I_JUMP I_JUMP I_JUMP", 2, "end"),
        ("", 0, "jump"),
    ],
)
def test_wrong_answer_names_its_first_wrong_step(output: str, step: int, operation: str) -> None:
    score = TASK.score(item(prompt="jump twice", target="I_JUMP I_JUMP"), output)
    assert (score.value, score.first_wrong_step, score.wrong_operation) == (0, step, operation)


@pytest.mark.parametrize(
    ("output", "value", "extraction"),
    [
        ("I_JUMP I_WALK", 1, "exact"),
        ("Answer: i_jump, I_WALK".replace(",", ""), 1, "actions"),
        ("I_JUMP I_WALK I_WALK OUT: I_RUN", 1, "prefix"),
        ("I_JUMP I_WALK OUT: IN: walk", 1, "actions"),
        ("I_WALK I_JUMP", 0, "none"),
        ("I_JUMP", 0, "none"),
        ("", 0, "none"),
    ],
)
def test_rescore_forgives_case_and_text_around(output: str, value: float, extraction: str) -> None:
    score = TASK.rescore(item(target="I_JUMP I_WALK"), output)
    assert (score.value, score.extraction) == (value, extraction)


def test_verify_asks_the_interpreter() -> None:
    assert TASK.verify("jump twice", "I_JUMP I_JUMP")
    assert not TASK.verify("jump twice", "I_JUMP")
    assert not TASK.verify("fly", "I_FLY")


def test_teacher_gives_every_command_of_the_slice_once() -> None:
    conditions = [("verb", "jump"), ("manner", "around")]
    taught = list(TASK.teach(conditions, seed=1))
    assert len(taught) == len({e.prompt for e in taught})
    assert {e.prompt for e in taught} == {
        e.prompt for e in TASK.corpus({"split": "all"}) if "jump" in e.axes["verb"] and "around" in e.axes["manner"]
    }
    assert all(TASK.verify(e.prompt, e.completion) and e.source == "teacher:scan-grammar" for e in taught)


def test_teacher_order_follows_the_seed() -> None:
    first, again, other = (
        [e.prompt for e in islice(TASK.teach([("verb", "turn")], seed=seed), 30)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_first_lessons_cover_the_phrases_of_a_slice_better_than_chance() -> None:
    taught = list(islice(TASK.teach([("verb", "jump")], seed=4), 64))
    covered = {part for e in taught for part in e.prompt.replace(" after ", " and ").split(" and ") if "jump" in part}
    assert len(covered) == 21, "jump has 21 phrases"


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: ScanTask({"domian": "all"}), "suite.options of task scan has no option 'domian'"),
        (lambda: ScanTask({"domain": "outside"}), "suite.options.domain is 'outside'"),
        (lambda: ScanTask({"split": ["add_prim_jump"]}), "suite.options.split is"),
        (lambda: TASK.corpus({"repeat": 2}), "corpus of task scan has no option 'repeat'"),
        (lambda: TASK.corpus({"split": "length"}), "corpus.split is 'length'"),
        (lambda: TASK.corpus({"repeat_primitive": 0}), "corpus.repeat_primitive is 0"),
        (lambda: TASK.corpus({"repeat_primitive": True}), "corpus.repeat_primitive is True"),
        (lambda: TASK.pool({"share": 0}), "pool.share is 0"),
        (lambda: TASK.pool({"share": "much"}), "pool.share is 'much'"),
        (lambda: TASK.pool({"size": 3}), "pool of task scan has no option 'size'"),
    ],
)
def test_a_wrong_option_is_named(build: object, complaint: str) -> None:
    with pytest.raises(InvalidRecipe, match=complaint.replace("[", r"\[")):
        build()  # type: ignore[operator]  # one of the lambdas above
