"""Outputs become outcomes; what cannot be scored is named, unless it is sealed."""

from __future__ import annotations

import math

import pytest
from builders import item, outcome

from mendloop.core.errors import Permanent
from mendloop.core.records import Item, Score
from mendloop.core.tasks import Task
from mendloop.evaluator.domain.scoring import failed_ids, outcome_of, paired, single_slices, tally
from mendloop.examples.scan.task import ScanTask
from mendloop.models.generation import Generation, TokenLogprobs

GENERATION = Generation("I_WALK", 3, 2, "eos")
LOGPROBS = TokenLogprobs((-0.5, -0.25), -0.125)


class BrokenTask(ScanTask):
    """Its scorer gives NaN, which no score may be, and quotes the item."""

    def score(self, item: Item, output: str) -> Score:
        if output == "nan":
            return Score(math.nan, "exact")
        raise KeyError(item.prompt)


def test_an_outcome_carries_everything_that_was_measured() -> None:
    made = outcome_of(item(verb="walk"), generation=GENERATION, logprobs=LOGPROBS, task=_scan())

    assert (made.score, made.extraction, made.stop_reason) == (1.0, "exact", "eos")
    assert (made.prompt_token_count, made.output_token_count) == (3, 2)
    assert made.target_logprob == pytest.approx(-0.875)  # the EOS counts
    assert made.axes == {"verb": ("walk",)}


def test_an_empty_output_is_a_typed_outcome() -> None:
    made = outcome_of(item(), generation=Generation(" ", 3, 0, "eos"), logprobs=LOGPROBS, task=_scan())

    assert (made.score, made.extraction) == (0.0, "empty")


def test_an_impossible_target_is_no_error() -> None:
    made = outcome_of(item(), generation=GENERATION, logprobs=TokenLogprobs((-math.inf,), -1.0), task=_scan())

    assert made.target_logprob == -math.inf


def test_a_nan_log_probability_stops_the_evaluation_and_names_the_item() -> None:
    with pytest.raises(Permanent, match="target of item 'i1' is NaN"):
        outcome_of(item(), generation=GENERATION, logprobs=TokenLogprobs((math.nan,), -1.0), task=_scan())


@pytest.mark.parametrize("output", ["nan", "raises"])
def test_a_broken_scorer_stops_the_evaluation_and_names_the_item(output: str) -> None:
    with pytest.raises(Permanent, match="the scorer failed on item 'i1'"):
        outcome_of(item(), generation=Generation(output, 1, 1, "eos"), logprobs=LOGPROBS, task=BrokenTask({}))


def test_a_sealed_item_is_never_named_or_quoted() -> None:
    sealed = item("secret-id", prompt="secret-prompt", target="secret-target", split="sealed")

    with pytest.raises(Permanent) as nan:
        outcome_of(sealed, generation=GENERATION, logprobs=TokenLogprobs((math.nan,), -1.0), task=_scan())
    with pytest.raises(Permanent) as broken:
        outcome_of(sealed, generation=GENERATION, logprobs=LOGPROBS, task=BrokenTask({}))

    assert "secret" not in f"{nan.value}{broken.value}"
    assert "KeyError" in str(broken.value)


def test_paired_counts_of_the_same_items() -> None:
    before = [outcome("a"), outcome("b"), outcome("c", score=0.0), outcome("d", score=0.0)]
    after = [outcome("a"), outcome("b", score=0.0), outcome("c"), outcome("d", score=0.0)]

    assert paired(before, after) == (4, 1, 1, 1)


def test_paired_counts_of_different_items_are_refused() -> None:
    with pytest.raises(ValueError, match="share 1 of 1 and 2 items"):
        paired([outcome("a")], [outcome("a"), outcome("b")])


def test_single_slices_are_found_and_counted() -> None:
    rows = [
        outcome("a", axes={"verb": ("jump", "walk"), "other": ("x",)}),
        outcome("b", score=0.0, axes={"verb": ("walk",)}),
    ]

    assert single_slices(rows, axes=["verb"]) == [(("verb", "jump"),), (("verb", "walk"),)]
    assert tally(rows, (("verb", "walk"),)) == (1, 2)
    assert failed_ids(rows, (("verb", "walk"),), limit=20) == ["b"]


def _scan() -> Task:
    return ScanTask({})
