"""Completions of one prompt share its forward, and score what each scores in a forward of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_models import WORDS, tiny_llama, word_tokenizer

from mendloop.core.errors import Permanent
from mendloop.models.encoding import Encoded
from mendloop.models.forward import Forward
from mendloop.models.likelihood import Scored
from mendloop.models.teacher_forcing import TeacherForcing
from mendloop.models.transformers_backend import TransformersModel

MODEL = tiny_llama(len(WORDS), seed=6)


class Counting(Forward):
    """A Forward that notes the shape of what it is asked to read."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.shapes: list[tuple[int, int]] = []

    def plain(self, ids_BT: Any, *, mask_BT: Any, last: int) -> Any:
        self.shapes.append(tuple(ids_BT.shape))
        return super().plain(ids_BT, mask_BT=mask_BT, last=last)

    def cached(self, ids_BT: Any, *, mask_BT: Any, positions_BT: Any, cache: Any, last: int) -> Any:
        self.shapes.append(tuple(ids_BT.shape))
        return super().cached(ids_BT, mask_BT=mask_BT, positions_BT=positions_BT, cache=cache, last=last)


def example(prompt: Sequence[int], completion: Sequence[int]) -> Encoded:
    return Encoded((*prompt, *completion), len(prompt), is_cut=False)


def reference(one: Encoded) -> Scored:
    """One forward over one example without padding."""
    with torch.no_grad():
        table = MODEL(torch.tensor([one.input_ids])).logits[0].log_softmax(-1)
    places = [(at - 1, one.input_ids[at]) for at in range(one.prompt_length, len(one.input_ids))]
    return Scored(
        tuple(float(table[at, token]) for at, token in places),
        tuple(int(table[at].argmax()) == token for at, token in places),
    )


def scored(examples: Sequence[Encoded], *, rows: int = 64) -> tuple[list[Scored], list[tuple[int, int]]]:
    forward = Counting(MODEL)
    forcing = TeacherForcing(forward, pad_id=0, batch_rows=rows, check_finite=lambda values: None)
    return forcing.score(examples), forward.shapes


def assert_as_alone(found: Sequence[Scored], examples: Sequence[Encoded]) -> None:
    for one, own in zip(examples, found, strict=True):
        wanted = reference(one)
        assert own.logprobs == pytest.approx(wanted.logprobs, abs=1e-5)
        assert own.are_greedy == wanted.are_greedy


def test_one_token_completions_of_a_prompt_come_from_one_row_of_logits() -> None:
    prompts = [tuple(range(3, 4 + length)) for length in range(1, 9)]
    examples = [example(prompt, [token]) for prompt in prompts for token in (5, 6, 7, 8)]

    found, shapes = scored(examples)

    assert shapes == [(8, 9)]
    assert_as_alone(found, examples)


@pytest.mark.parametrize("rows", [64, 3])
def test_longer_completions_read_on_from_the_prompts_cache(rows: int) -> None:
    prompts = [tuple(range(3, 4 + length)) for length in (1, 8, 4, 11)]
    tails = [(5,), (5, 6), (5, 7), (9, 9, 9, 4), (8, 3, 5)]
    examples = [example(prompt, tail) for prompt in prompts for tail in tails]

    found, shapes = scored(examples, rows=rows)

    assert_as_alone(found, examples)
    read = sum(rows * width for rows, width in shapes)
    assert read < sum(len(one.input_ids) - 1 for one in examples)
    if rows == 64:
        assert shapes == [(4, 12), (12, 3)], "(5, 6) and (5, 7) share a row"


def test_single_completions_and_long_texts_behind_a_bos_are_read_as_one() -> None:
    texts = [example((2,), [3 + (at * k) % 9 for at in range(20)]) for k in (1, 2, 4)]
    singles = [example((4, 5, 6, at), (7, 8)) for at in range(3, 8)]

    found, shapes = scored([*texts, *singles])

    assert shapes == [(8, 20)]
    assert_as_alone(found, [*texts, *singles])


def test_continuations_are_the_log_probabilities_without_the_eos() -> None:
    model = TransformersModel(MODEL, word_tokenizer(), name="tiny", batch_rows=5)
    prompts = ["w1 w2 w3 w4", "w1 w2 w3 w4", "w1 w2 w3 w4", "w5", "w5", ""]
    completions = ["w1", "w2 w3", "", "w4", "w4 w4 w4 w4", "w3 w3 w3"]

    ours = model.continuation_logprobs(prompts, completions)

    for found, whole in zip(ours, model.logprobs(prompts, completions), strict=True):
        assert found.tokens == pytest.approx(whole.tokens, abs=1e-5)
        assert (found.eos, found.is_greedy) == (0.0, whole.is_greedy)


def test_a_continuation_needs_no_room_for_an_eos_and_more_is_refused_or_windowed() -> None:
    model = TransformersModel(tiny_llama(len(WORDS), context=8), word_tokenizer(), name="tiny")

    (full,) = model.continuation_logprobs(["w1 w2"], [" ".join(["w3"] * 7)])
    (windowed,) = model.continuation_logprobs([""], [" ".join(["w3"] * 30)])

    assert (len(full.tokens), len(windowed.tokens)) == (7, 30)
    assert all(math.isfinite(value) for value in windowed.tokens)
    with pytest.raises(Permanent, match="10 tokens, the context of tiny has 8"):
        model.continuation_logprobs(["w1 w2"], [" ".join(["w3"] * 8)])


def test_weights_that_compute_nan_are_refused_with_shared_prompts_too() -> None:
    broken = tiny_llama(len(WORDS))
    broken.model.norm.weight.data[0] = float("nan")
    model = TransformersModel(broken, word_tokenizer(), name="tiny")

    with pytest.raises(Permanent, match="NaN or infinity"):
        model.continuation_logprobs(["w1 w2 w3"] * 2, ["w1", "w2"])
