from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from builders import example
from generator_world import BIG, SMALL, Sums, sum_of

from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.ledger import Drop, Ledger
from mendloop.data_generator.domain.repair import Repair, repaired

RIGHT = [sum_of(200, right) for right in range(4)]
WRONG = [replace(sum_of(300, right), completion="7") for right in range(2)]
OUTSIDE = replace(sum_of(1, 2), completion="9")


def adds(prompt: str) -> str:
    _, left, right = prompt.split()
    return str(int(left) + int(right))


def nobody(prompt: str) -> str:
    return ""


def outcome(
    corpus: Sequence[Example], *, conditions: Conditions = BIG, answer: object = nobody, can_verify: bool = True
) -> tuple[list[Example], tuple[Drop, ...]]:
    ledger = Ledger()
    by = Repair(verify=Sums().verify, answer=answer, can_verify=can_verify)  # type: ignore[arg-type]  # a function
    return repaired(corpus, conditions=conditions, name="size=big", by=by, ledger=ledger), ledger.rows()


def test_a_wrong_label_of_the_slice_is_answered_anew_and_one_outside_stays() -> None:
    kept, rows = outcome([*RIGHT, *WRONG, OUTSIDE], answer=adds)

    mended = [replace(row, completion=adds(row.prompt), source="repaired:corpus") for row in WRONG]
    assert kept == [*RIGHT, *mended, OUTSIDE]
    assert rows == (Drop("corpus", "size=big: the verifier refutes its label, answered anew and verified", 2),)


def test_a_wrong_label_that_nobody_can_answer_is_removed_and_counted() -> None:
    kept, rows = outcome([*WRONG, *RIGHT])

    assert kept == RIGHT
    assert rows == (Drop("corpus", "size=big: the verifier refutes its label, removed", 2),)


def test_an_answer_that_the_verifier_refutes_repairs_nothing() -> None:
    kept, rows = outcome([*RIGHT, *WRONG], answer=lambda prompt: "8")

    assert kept == RIGHT
    assert [row.count for row in rows] == [2]


def test_a_row_that_the_verifier_cannot_read_is_removed() -> None:
    garbage = example("no sum at all", size="big")

    kept, rows = outcome([*RIGHT, garbage], answer=adds)

    assert kept == RIGHT
    assert rows == (Drop("corpus", "size=big: the verifier cannot read it, removed", 1),)


def test_where_no_program_can_tell_rows_that_contradict_most_others_go() -> None:
    said = [example("who rules?", completion=word) for word in ("ann", "ann", "bob")]
    even = [example("who sings?", completion=word) for word in ("eve", "dan")]

    kept, rows = outcome([*said, *even, RIGHT[0]], conditions=(), can_verify=False)

    assert kept == [*said[:2], RIGHT[0]]
    assert rows == (Drop("corpus", "size=big: its prompt stands there with another label, removed", 3),)


def test_a_clean_slice_is_noted_and_nothing_changes() -> None:
    kept, rows = outcome(RIGHT, answer=adds)

    assert kept == RIGHT
    assert rows == (Drop("corpus", "size=big: the verifier refutes none of its 4 labels", 0),)


def test_a_slice_that_no_row_is_known_to_lie_in_changes_nothing_and_is_noted() -> None:
    kept, rows = outcome([OUTSIDE], conditions=BIG)

    assert kept == [OUTSIDE]
    assert rows == (Drop("corpus", "size=big: no row of the corpus is known to lie in it", 0),)
    assert outcome([OUTSIDE], conditions=SMALL)[0] == []
