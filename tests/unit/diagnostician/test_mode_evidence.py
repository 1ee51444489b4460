"""Failure modes as evidence: a table to look at, for every case that has failures."""

from __future__ import annotations

from dataclasses import replace

from diagnosis_cases import ToyModel, case_of, wrong_on

from mendloop.diagnostician.domain.mode_evidence import COLUMNS, LONGEST_TEXT, modes_of


def test_every_sampled_failure_lies_in_one_mode_of_the_table() -> None:
    case = case_of(ToyModel(wrong_on("green")))

    modes, row = modes_of(case)

    assert modes is not None
    assert row.attachment is not None
    assert row.attachment.document["columns"] == COLUMNS
    table = row.attachment.document["rows"]
    assert isinstance(table, list)
    assert sum(line[1] for line in table) == sum(len(sample.failed) for sample in case.samples) == row.n
    assert modes.version in row.reading


def test_long_texts_are_cut_in_the_table() -> None:
    case = case_of(ToyModel(lambda prompt: "word " * 200), max_new_tokens=300)

    _, row = modes_of(case)

    assert row.attachment is not None
    table = row.attachment.document["rows"]
    assert isinstance(table, list)
    assert all(len(line[5]) <= LONGEST_TEXT + 1 for line in table)


def test_without_failures_the_row_says_so() -> None:
    case = case_of(ToyModel(wrong_on("green")))
    a, b = (replace(sample, failed=()) for sample in case.samples)

    modes, row = modes_of(replace(case, samples=(a, b)))

    assert modes is None
    assert (row.n, row.reading) == (0, "No failure was sampled.")
