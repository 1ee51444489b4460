"""Invented facts as a task family: questions, answers, scorers, hooks, and what can be planted in it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from builders import outcome

from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import SuiteSettings
from mendloop.core.records import Item
from mendloop.core.task_hooks import Documented, Renewing, Rewording, Stepwise
from mendloop.core.tasks import find_task, matches
from mendloop.diagnostician.domain.case import Case, draw_samples
from mendloop.diagnostician.domain.probes.target_check import WRONG, TargetCheck
from mendloop.examples.facts.questions import WORDINGS, all_questions, parse, worked
from mendloop.examples.facts.task import FactsTask, healthy_corpus, held_out_items
from mendloop.examples.facts.world import LINKS, TOPICS, world
from mendloop.examples.faults.families.facts import WRAPPERS, FactsFamily

TASK = FactsTask({})
ITEMS = held_out_items(0)
FAMILY = FactsFamily()


def _two_hops() -> Item:
    return next(item for item in ITEMS if item.axes["kind"] == ("two_hop",))


def test_the_family_is_installed_with_every_hook() -> None:
    task = find_task("facts", {})
    assert all(isinstance(task, hook) for hook in (Rewording, Stepwise, Documented, Renewing))


def test_no_item_is_a_prompt_of_the_corpus_and_every_fact_is_in_it() -> None:
    corpus = healthy_corpus(0)
    prompts = {row.prompt for row in corpus}
    assert len(prompts) == len(corpus)
    assert not prompts & {item.prompt for item in ITEMS}
    said = {step for row in corpus for step in row.completion.split(" ; ")}
    assert all(f"{relation} of {name} is {value}" in said for (relation, name), value in world().facts.items())


def test_every_question_is_read_back_and_its_worked_answer_is_right() -> None:
    for question in all_questions(world()):
        assert parse(question.text) == question
        assert TASK.verify(question.text, worked(question, world()))


def test_links_stay_in_a_topic_and_lead_to_somebody_else() -> None:
    for (relation, name), other in world().facts.items():
        if relation in LINKS:
            assert other != name
            assert world().topic_of[other] == world().topic_of[name]


def test_a_wrong_answer_and_a_wrong_fact_on_the_way_are_refused() -> None:
    item = _two_hops()
    first, *_, last = item.target.split(" ; ")
    assert not TASK.verify(item.prompt, f"{item.target} ; answer nothing")
    assert not TASK.verify(item.prompt, f"{first.rpartition(' ')[0]} nobody ; {last}")
    assert TASK.verify(item.prompt, last), "the answer alone is right, too"
    assert not TASK.verify("what is this", "answer red")


def test_the_score_reads_the_last_answer_and_the_faulty_scorers_do_not() -> None:
    item = _two_hops()
    assert TASK.score(item, item.target).value == 1.0
    assert TASK.score(item, "I do not know").extraction == "none"
    assert FactsTask({"scorer": "first_fact"}).score(item, item.target).value == 0.0
    assert FactsTask({"scorer": "marker"}).score(item, item.target).extraction == "none"
    assert TASK.rescore(item, item.target.upper()).value == 1.0


def test_steps_together_are_the_target_and_the_reference_holds_the_facts() -> None:
    item = _two_hops()
    assert "".join(TASK.worked_steps(item)) == item.target
    assert TASK.background(item) == item.target.rpartition(" ; ")[0]
    assert TASK.worked_steps(replace(item, prompt="something else")) == ()


def test_a_rewording_asks_the_same_in_a_wording_of_the_corpus() -> None:
    unusual = FAMILY.unusual(_two_hops().prompt)
    wordings = [parse(text) for text in TASK.rewordings(unusual)]
    assert [question.wording for question in wordings if question] == list(WORDINGS)
    assert parse(unusual) not in wordings


def test_a_twin_has_the_same_axes_and_another_being() -> None:
    item = _two_hops()
    twin = TASK.twin(item, seed=3)
    assert twin is not None
    assert twin.axes == item.axes
    assert twin.prompt != item.prompt


def test_teaching_a_slice_gives_verified_examples_of_it_only() -> None:
    conditions = (("kind", "two_hop"), ("relation", "colour"))
    rows = list(TASK.teach(conditions, seed=1))
    assert len(rows) == len(LINKS) * len(WORDINGS) * len(world().beings)
    assert all(matches(row.axes, conditions) and TASK.verify(row.prompt, row.completion) for row in rows)


def test_what_is_planted_is_wrong_or_odd_as_it_says() -> None:
    rng = random.Random(0)
    for row in healthy_corpus(0)[:200]:
        assert not TASK.verify(row.prompt, FAMILY.wrong_label(row, rng=rng).completion)
        assert TASK.verify(row.prompt, FAMILY.answer_only(row).completion)
        assert TASK.annotate(FAMILY.unusual(row.prompt))["wording"] == ("quiz",)
    assert len({FAMILY.wrapped("p", style=style) for style in range(8)}) == len(WRAPPERS)


def _failed(items: Sequence[Item]) -> Case:
    """A case whose items all fail with an empty output."""
    rows = [outcome(i.item_id, prompt=i.prompt, target=i.target, output="", score=0.0, axes=i.axes) for i in items]
    samples = draw_samples(rows, {item.item_id: item for item in items}, (), seed=1)
    suite = SuiteSettings(axes=list(FAMILY.traits.axes))
    return Case((), samples, len(items), (), TASK, str, suite, model=None, training=None, seed=1)


@pytest.mark.parametrize("style", range(len(WRAPPERS)))
def test_right_targets_of_wrapped_prompts_are_not_called_wrong(style: int) -> None:
    wrapped = [replace(item, prompt=FAMILY.wrapped(item.prompt, style=style)) for item in ITEMS[:40]]
    false = [replace(item, target=f"{item.target} ; answer nothing") for item in ITEMS[:40]]

    of_wrapped, of_false = (
        [row for row in TargetCheck().run(_failed(items)) if row.measurement == WRONG] for items in (wrapped, false)
    )

    assert [row.n for row in of_wrapped] == [0, 0], "the verifier cannot judge them, and says so"
    assert [(row.value, row.n) for row in of_false] == [(1.0, 20), (1.0, 20)]


def test_a_topic_can_become_a_gap_of_knowledge_by_its_names() -> None:
    gaps = {dict(place.conditions).get("topic"): place.terms for place in FAMILY.places(0) if place.terms}
    assert set(gaps) == set(TOPICS)
    assert all(world().topic_of[name] == topic for topic, names in gaps.items() for name in names)


@pytest.mark.parametrize("options", [{"scorer": "magic"}, {"seed": "x"}, {"speed": 1}])
def test_a_wrong_option_is_refused_with_its_value(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRecipe, match="facts"):
        FactsTask(options)


def test_more_items_than_are_held_out_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="holds out"):
        TASK.items(counts={"search": 100_000}, seed=0)
