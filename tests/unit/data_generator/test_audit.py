from __future__ import annotations

from typing import Any

import pytest
from builders import example

from mendloop.core.records import Example
from mendloop.data_generator.domain.audit import MOST_VALUES, OTHER, audit


def test_shares_before_and_after_are_those_of_corpus_and_corpus_with_batch() -> None:
    corpus = [example(verb="walk")] * 9 + [example(verb="jump")]
    report: Any = audit(corpus, [example(verb="jump")] * 10)

    values = report["axes"]["verb"]["values"]
    assert values["walk"] == {"before": 0.9, "after": 0.45, "batch": 0}
    assert values["jump"] == {"before": 0.1, "after": 0.55, "batch": 10}
    assert report["axes"]["verb"]["largest_shift"] == pytest.approx(0.45)


def test_an_example_with_several_values_counts_for_each_once() -> None:
    both = Example("a", "b", "x", axes={"verb": ("walk", "jump", "walk")})

    report: Any = audit([both], [])

    assert {value: row["before"] for value, row in report["axes"]["verb"]["values"].items()} == {"walk": 1, "jump": 1}


def test_axes_of_the_batch_alone_are_audited_too() -> None:
    report: Any = audit([example()], [example(verb="jump")])

    assert report["axes"]["verb"]["values"]["jump"] == {"before": 0.0, "after": 0.5, "batch": 1}


def test_an_axis_of_many_values_is_summed_up() -> None:
    corpus = [example(word=str(number)) for number in range(3 * MOST_VALUES)]

    report: Any = audit(corpus, [])

    values = report["axes"]["word"]["values"]
    assert len(values) == MOST_VALUES + 1
    assert values[OTHER]["before"] == pytest.approx(2 / 3)


def test_the_answers_of_corpus_and_batch_are_counted() -> None:
    report: Any = audit([example(completion="yes")] * 3 + [example(completion="no")], [example(completion="no")] * 2)

    assert report["answers"] == {
        "corpus": {"distinct": 2, "most_frequent_share": 0.75},
        "batch": {"distinct": 1, "most_frequent_share": 1.0},
        "after": {"distinct": 2, "most_frequent_share": 0.5},
    }


def test_where_the_corpus_was_curated_what_is_kept_counts_after() -> None:
    wrong, right = example(completion="5", verb="jump"), example(completion="4", verb="walk")

    report: Any = audit([wrong, right, right], [right], kept=[right, right])

    assert (report["corpus_count"], report["kept_count"]) == (3, 2)
    assert report["axes"]["verb"]["values"]["jump"] == {"before": pytest.approx(1 / 3), "after": 0.0, "batch": 0}
    assert report["answers"]["after"] == {"distinct": 1, "most_frequent_share": 1.0}


def test_nothing_is_audited_without_an_error() -> None:
    report: Any = audit([], [])

    assert report["axes"] == {}
    assert report["answers"]["batch"] == {"distinct": 0, "most_frequent_share": 0.0}
