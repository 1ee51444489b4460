from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from diagnosis_cases import ToyModel, case_of, wrong_on

from mendloop.diagnostician.domain.case import Sample
from mendloop.diagnostician.domain.operation import failing_operation


def _named(sample: Sample, operations: Sequence[str]) -> Sample:
    """The sample whose failures go wrong at these operations, in turn."""
    rows = tuple(
        replace(row, outcome=replace(row.outcome, wrong_operation=operations[at % len(operations)]))
        for at, row in enumerate(sample.failed)
    )
    return replace(sample, failed=rows)


@pytest.mark.parametrize(
    ("first", "second", "operation"),
    [
        (["paint"], ["paint"], "paint"),
        (["paint", "take"], ["paint", "paint", "take"], "paint"),
        (["paint", "", ""], ["paint"], ""),
        (["paint"], ["take"], ""),
        ([""], [""], ""),
    ],
    ids=["all", "half in both samples", "a third in one sample", "another in each sample", "nobody looked"],
)
def test_an_operation_is_named_where_it_is_first_wrong_in_half_of_both_samples(
    first: list[str], second: list[str], operation: str
) -> None:
    case = case_of(ToyModel(wrong_on("green")))
    assert all(len(sample.failed) >= 6 for sample in case.samples)

    samples = (_named(case.samples[0], first), _named(case.samples[1], second))

    assert failing_operation(replace(case, samples=samples)) == operation
