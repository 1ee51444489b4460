from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from generator_world import BIG, HangingSource, ListedSource, Sums, sum_of

from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.adapters.patience import AHEAD, PatientSource
from mendloop.data_generator.adapters.pool import PoolSource
from mendloop.data_generator.adapters.teacher import TaskTeacher
from mendloop.data_generator.domain.collection import CHECK_EVERY, Limits, collect
from mendloop.data_generator.domain.ledger import Ledger

ROWS = [sum_of(left, 5) for left in (*range(10), *range(200, 210))]
LIMITS = Limits(candidates=1_000, survivors=100, fruitless=50)


def everything(example: Example) -> Example | None:
    return example


def nothing(example: Example) -> Example | None:
    return None


def gathered(candidates: Iterator[Example], *, passed: object = everything) -> tuple[list[Example], str]:
    ledger = Ledger()
    found = collect(
        candidates,
        source="s",
        passed=passed,  # type: ignore[arg-type]  # one of the two functions above
        limits=LIMITS,
        ledger=ledger,
        on_progress=lambda count: None,
    )
    [row] = ledger.rows()
    assert (row.stage, row.count) == ("source", 0)
    return found, row.reason


def test_the_pool_gives_the_rows_of_the_slice_as_its_own() -> None:
    found = list(PoolSource(ROWS, annotate=Sums().annotate).candidates(BIG, seed=1))

    assert {row.prompt for row in found} == {row.prompt for row in ROWS[10:]}
    assert {row.source for row in found} == {"pool"}


def test_the_pool_shuffles_by_the_seed() -> None:
    pool = PoolSource(ROWS, annotate=Sums().annotate)

    one, again, other = (list(pool.candidates((), seed=seed)) for seed in (1, 1, 2))

    assert one == again
    assert one != other
    assert len(one) == len(other) == len(ROWS)


def test_a_pool_without_axes_is_annotated_and_garbage_in_it_is_in_no_slice() -> None:
    bare = [Example(row.prompt, row.completion, "x") for row in ROWS] + [Example("not a sum", "?", "x")]
    pool = PoolSource(bare, annotate=Sums().annotate)

    assert len(list(pool.candidates(BIG, seed=1))) == 10
    assert len(list(pool.candidates((), seed=1))) == 21


def test_the_pool_has_nothing_for_an_unknown_value() -> None:
    assert list(PoolSource(ROWS, annotate=Sums().annotate).candidates((("size", "huge"),), seed=1)) == []


def test_the_teacher_signs_its_examples() -> None:
    teacher = TaskTeacher(Sums(), task_name="sums")

    first = next(teacher.candidates(BIG, seed=3))

    assert teacher.name == "teacher:sums"
    assert first.source == "teacher:sums"
    assert first == next(teacher.candidates(BIG, seed=3))


def test_a_teacher_that_cannot_teach_the_slice_is_given_up_on() -> None:
    def refuse(conditions: Conditions, seed: int) -> Iterator[Example]:
        raise ValueError("no such slice")
        yield

    found, reason = gathered(TaskTeacher(Sums(lesson=refuse), task_name="sums").candidates(BIG, seed=0))

    assert found == []
    assert reason == "s: gave up after 0 candidates: teacher:sums cannot go on: no such slice"


def test_a_source_that_ends_is_noted_with_its_figures() -> None:
    assert gathered(iter(ROWS)) == (ROWS, "s: ended after 20 candidates, 20 passed")


def test_an_endless_source_is_cut_off_at_the_survivors_that_are_enough() -> None:
    found, reason = gathered(Sums().teach((), seed=0))

    assert len(found) == 100
    assert reason == "s: cut off at 100 that passed, of 100 looked at"


def test_an_endless_source_of_garbage_is_cut_off_by_the_retry_cap() -> None:
    found, reason = gathered(Sums().teach((), seed=0), passed=nothing)

    assert found == []
    assert reason == "s: cut off after 50 candidates in a row of which none passed (50 looked at)"


def test_a_poor_endless_source_is_cut_off_at_the_candidates_looked_at() -> None:
    lucky = iter(range(10**9))

    found, reason = gathered(
        Sums().teach((), seed=0), passed=lambda example: example if next(lucky) % 40 == 0 else None
    )

    assert len(found) == 25
    assert reason == "s: cut off at 1000 candidates looked at, 25 passed"


def test_progress_is_told_and_may_stop_the_work() -> None:
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        if count >= 2 * CHECK_EVERY:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        collect(
            Sums().teach((), seed=0),
            source="s",
            passed=everything,
            limits=Limits(),
            ledger=Ledger(),
            on_progress=tell,
        )
    assert told == [CHECK_EVERY, 2 * CHECK_EVERY]


def test_patience_changes_nothing_of_a_source_that_works() -> None:
    rows = [sum_of(left, right) for left in range(30) for right in range(30)]

    assert len(rows) > 2 * AHEAD
    assert list(PatientSource(ListedSource(rows), stall_s=30).candidates((), seed=0)) == rows


def test_a_source_that_hangs_is_left_and_what_it_gave_is_kept() -> None:
    hanging = HangingSource(first=ROWS)

    found, reason = gathered(PatientSource(hanging, stall_s=0.1).candidates((), seed=0))
    hanging.released.set()

    assert found == ROWS
    assert reason == "s: gave up after 20 candidates: hanging gave no candidate for 0.1 s"


def test_an_error_of_a_source_is_raised_where_its_candidates_are_read() -> None:
    def broken(conditions: Conditions, seed: int) -> Iterator[Example]:
        yield sum_of(1, 2)
        raise TypeError("a bug")

    source = PatientSource(TaskTeacher(Sums(lesson=broken), task_name="sums"), stall_s=30)
    candidates = source.candidates((), seed=0)

    assert next(candidates).prompt == "add 1 2"
    with pytest.raises(TypeError, match="a bug"):
        next(candidates)


def test_an_endless_source_ends_its_thread_when_nobody_reads_any_more() -> None:
    source = PatientSource(TaskTeacher(Sums(), task_name="left alone"), stall_s=30)
    candidates = source.candidates((), seed=0)
    next(candidates)

    candidates.close()  # type: ignore[attr-defined]  # it is a generator

    deadline = time.monotonic() + 20
    while any(thread.name == "source teacher:left alone" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@pytest.mark.parametrize("field", ["candidates", "survivors", "fruitless"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"limits.{field} is 0"):
        Limits(**{field: 0})
