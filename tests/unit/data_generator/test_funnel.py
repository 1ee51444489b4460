from __future__ import annotations

from typing import Any

import pytest
from builders import example
from generator_world import BIG, SMALL, Sums, sum_of

from mendloop.core.records import Example, fingerprint
from mendloop.core.tasks import Conditions
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.data_generator.domain.funnel import Funnel, Rules
from mendloop.data_generator.domain.ledger import Drop, Ledger


def funnel(ledger: Ledger, *, corpus: list[Example] | None = None, task: Any = None, **rules: Any) -> Funnel:
    task, corpus = task or Sums(), corpus or []
    known = MinHashIndex()
    known.add(corpus)
    return Funnel(
        Rules(
            verify=task.verify,
            annotate=task.annotate,
            held_out=rules.pop("held_out", frozenset()),
            in_corpus=frozenset(fingerprint(row.prompt) for row in corpus),
            **rules,
        ),
        known=known,
        ledger=ledger,
    )


def passing(
    candidates: list[Example], *, conditions: Conditions = (), **parts: Any
) -> tuple[list[Example], tuple[Drop, ...]]:
    ledger = Ledger()
    passed = funnel(ledger, **parts).passage(conditions, fresh=MinHashIndex())
    return [row for row in map(passed, candidates) if row], ledger.rows()


def test_a_right_new_example_passes_with_the_axes_that_the_task_reads() -> None:
    passed, rows = passing([Example("add 200 3", "203", "teacher:sums", axes={"made": ("up",)})], conditions=BIG)

    assert passed == [Example("add 200 3", "203", "teacher:sums", axes={"size": ("big",)})]
    assert rows == ()


def test_a_wrong_answer_is_dropped() -> None:
    assert passing([example("add 1 2", completion="4")]) == (
        [],
        (Drop("verification", "the verifier does not confirm the answer", 1),),
    )


@pytest.mark.parametrize(("prompt", "error"), [("add one two", "ValueError"), ("add 1", "ValueError")])
def test_garbage_is_dropped_with_the_error_that_it_caused(prompt: str, error: str) -> None:
    passed, rows = passing([example(prompt, completion="4")])

    assert passed == []
    assert rows == (Drop("verification", f"the verifier cannot read it ({error})", 1),)


def test_what_no_program_can_verify_is_dropped_with_that_reason() -> None:
    passed, [row] = passing([sum_of(1, 2)], task=Sums(has_verifier=False), can_verify=False)

    assert passed == []
    assert row.stage == "verification"
    assert row.reason.startswith("no program can verify answers of this task")


def test_a_fault_of_the_task_is_no_drop() -> None:
    class Broken(Sums):
        def verify(self, prompt: str, answer: str) -> bool:
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        passing([sum_of(1, 2)], task=Broken())


def test_a_prompt_of_the_corpus_is_a_duplicate_whatever_its_case_and_spaces() -> None:
    passed, rows = passing([Example("ADD  1 2", "3", "x")], corpus=[sum_of(1, 2)], task=Loud())

    assert passed == []
    assert rows == (Drop("duplicate", "its prompt is in the corpus", 1),)


class Loud(Sums):
    def annotate(self, prompt: str) -> Any:
        return super().annotate(prompt.lower())


def test_the_same_candidate_twice_passes_once() -> None:
    passed, rows = passing([sum_of(1, 2), sum_of(3, 4), sum_of(1, 2)])

    assert passed == [sum_of(1, 2), sum_of(3, 4)]
    assert rows == (Drop("duplicate", "its prompt is in the batch or among its candidates", 1),)


def test_what_one_slice_chose_is_a_duplicate_for_the_next_but_what_it_left_is_not() -> None:
    ledger = Ledger()
    stages = funnel(ledger)
    first = stages.passage(SMALL, fresh=MinHashIndex())
    chosen, left = first(sum_of(1, 2)), first(sum_of(3, 4))
    assert chosen is not None
    assert left is not None
    stages.choose([chosen])

    second = stages.passage((), fresh=MinHashIndex())

    assert [second(sum_of(1, 2)), second(sum_of(3, 4))] == [None, sum_of(3, 4)]


def test_an_evaluation_item_is_dropped_by_its_fingerprint_whatever_its_case_and_spaces() -> None:
    held_out = frozenset({fingerprint("Add 1   2")})

    passed, rows = passing([sum_of(1, 2), sum_of(2, 1)], held_out=held_out)

    assert passed == [sum_of(2, 1)]
    assert rows == (Drop("decontamination", "its prompt is an evaluation item", 1),)


def test_an_example_that_holds_the_words_of_an_item_is_dropped() -> None:
    passed, rows = passing([sum_of(1, 2), sum_of(2, 1)], holds_item=lambda row: row.prompt == "add 1 2")

    assert passed == [sum_of(2, 1)]
    assert rows == (Drop("decontamination", "it holds the words of an evaluation item", 1),)


def test_an_example_outside_the_slice_is_dropped() -> None:
    passed, rows = passing([sum_of(1, 2), sum_of(500, 2)], conditions=BIG)

    assert passed == [sum_of(500, 2)]
    assert rows == (Drop("slice", "outside the slice", 1),)


def test_an_example_whose_axes_cannot_be_read_is_dropped() -> None:
    passed, rows = passing([example("sub 1 2", completion="3")])

    assert passed == []
    assert rows == (Drop("slice", "its axes cannot be read (ValueError)", 1),)


def test_a_dropped_candidate_makes_no_other_one_a_duplicate() -> None:
    long = "add 1 2" + " " * 3
    held_out = frozenset({fingerprint(long)})

    passed, rows = passing([Example(long, "3", "x"), sum_of(2, 1)], held_out=held_out)

    assert passed == [sum_of(2, 1)]
    assert [row.stage for row in rows] == ["decontamination"]


def test_ledger_lines_stand_in_the_order_of_the_stages_and_notes_count_nothing() -> None:
    ledger = Ledger()
    ledger.note("budget", "3 of 4")
    ledger.drop("slice", "outside", count=2)
    ledger.drop("verification", "rare")
    ledger.drop("verification", "often", count=5)

    assert ledger.rows() == (
        Drop("verification", "often", 5),
        Drop("verification", "rare", 1),
        Drop("slice", "outside", 2),
        Drop("budget", "3 of 4", 0),
    )
    assert ledger.count_by_stage() == {"verification": 6, "slice": 2}
