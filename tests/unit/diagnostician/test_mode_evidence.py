"""Failure modes as evidence: a table to look at, for every case that has failures."""

from __future__ import annotations

from dataclasses import replace

from diagnosis_cases import ToyModel, case_of, wrong_on

from mendloop.core.records import Example
from mendloop.diagnostician.domain.mode_evidence import COLUMNS, CORPUS_SAMPLE, LONGEST_TEXT, corpus_sample, modes_of


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


def test_a_large_corpus_is_sampled_once_by_the_seed_of_the_case() -> None:
    case = case_of(ToyModel(wrong_on("green")))
    rows = [Example(f"say {number % 7} and {number}", "yes", "test") for number in range(3 * CORPUS_SAMPLE)]
    large = replace(case, corpus=(*rows, *rows))
    sample = corpus_sample(large.corpus, seed=case.seed)

    modes, row = modes_of(large)

    assert len({one.prompt for one in sample}) == len(sample) == CORPUS_SAMPLE
    assert (modes, row) == modes_of(replace(case, corpus=tuple(sample)))
    assert modes != modes_of(replace(case, corpus=tuple(rows[:CORPUS_SAMPLE])))[0]


def test_a_small_corpus_keeps_every_prompt_and_its_order() -> None:
    corpus = case_of(ToyModel(wrong_on("green"))).corpus

    sample = corpus_sample(corpus, seed=5)

    assert [row.prompt for row in sample] == list(dict.fromkeys(row.prompt for row in corpus))
