"""Hooks see what the model computes, and a patched run is the clean one where everything is patched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import WORDS, tiny_llama, word_tokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from mendloop.core.errors import Permanent
from mendloop.models.inside import ModelInside, decoder_blocks
from mendloop.models.inspection import Cell, Patched, Predicted, evenly, recovery, token_texts
from mendloop.models.transformers_backend import TransformersModel

LAYERS = 3
CLEAN, CORRUPTED = (3, 4, 5, 6, 7), (3, 8, 5, 9, 7)
TOKENS = (4, 9)


def gpt2() -> Any:
    torch.manual_seed(1)
    sizes = {"vocab_size": len(WORDS), "n_positions": 64, "n_embd": 16, "n_layer": LAYERS, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=2, eos_token_id=2)).eval()


def qwen2() -> Any:
    torch.manual_seed(2)
    config = Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return Qwen2ForCausalLM(config).eval()


def llama() -> Any:
    return tiny_llama(len(WORDS), seed=3, layers=LAYERS)


FAMILIES = pytest.mark.parametrize("build", [llama, gpt2, qwen2])


def inside_of(model: Any, **options: int) -> ModelInside:
    return ModelInside(TransformersModel(model, word_tokenizer(), name="tiny"), **options)


@FAMILIES
def test_hidden_states_are_those_of_a_plain_pass_for_prompts_of_every_length(build: Any) -> None:
    model = build()
    prompts = [(3,), (4, 5, 6, 7, 8), (9, 3, 4), (5, 6), (7, 8, 9, 3)]
    states = inside_of(model, batch_tokens=10).states(prompts, layers=range(LAYERS))
    assert states.shape == (5, LAYERS, 1, 16)
    for prompt, own in zip(prompts, states, strict=True):
        with torch.no_grad():
            plain = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states
        for layer in range(LAYERS):
            np.testing.assert_allclose(own[layer, 0], plain[layer][0, -1].numpy(), atol=1e-4)


@FAMILIES
def test_the_last_layer_is_what_the_final_norm_reads(build: Any) -> None:
    model = build()
    norm = model.transformer.ln_f if build is gpt2 else model.model.norm
    states = inside_of(model).states([CLEAN], layers=[LAYERS], positions=[-1, -3])
    with torch.no_grad():
        plain = model(torch.tensor([CLEAN]), output_hidden_states=True).hidden_states[-1]
        ours = norm(torch.tensor(states[0, 0]))
    torch.testing.assert_close(ours, plain[0, [-1, -3]], atol=1e-5, rtol=1e-5)


@FAMILIES
def test_a_run_with_hooks_that_patch_nothing_agrees_to_the_bit_with_a_plain_pass(build: Any) -> None:
    model = build()
    patched = inside_of(model).patch(CLEAN, CORRUPTED, cells=[Cell(2, ()), Cell(0, ())], tokens=TOKENS)
    with torch.no_grad():
        clean = model(torch.tensor([CLEAN]), logits_to_keep=1).logits[0, -1, list(TOKENS)].tolist()
        corrupted = model(torch.tensor([CORRUPTED] * 3), logits_to_keep=1).logits[:, -1][:, list(TOKENS)].tolist()
    assert patched.clean.logits == tuple(clean)
    assert [patched.corrupted.logits, *(cell.logits for cell in patched.cells)] == [tuple(row) for row in corrupted]
    assert recovery(_ordered(patched)) == (0.0, 0.0)


@FAMILIES
def test_patching_every_position_restores_all_at_any_layer_and_the_last_position_alone_at_the_last(build: Any) -> None:
    every = tuple(range(-5, 0))
    cells = [*(Cell(layer, every) for layer in range(LAYERS + 1)), Cell(LAYERS, (-1,)), Cell(LAYERS, every[:-1])]
    shares = recovery(_ordered(inside_of(build()).patch(CLEAN, CORRUPTED, cells=cells, tokens=TOKENS)))
    assert shares[:-1] == pytest.approx([1.0] * (LAYERS + 2), abs=1e-3)
    assert shares[-1] == pytest.approx(0.0, abs=1e-3), "at the last layer other positions are no longer read"


def test_equal_tokens_before_any_layer_are_nothing_to_patch_and_batches_change_nothing() -> None:
    model = llama()
    cells = [Cell(layer, (at,)) for layer in range(LAYERS + 1) for at in range(-5, 0)]
    whole = inside_of(model).patch(CLEAN, CORRUPTED, cells=cells, tokens=TOKENS)
    parts = inside_of(model, batch_tokens=11).patch(CLEAN, CORRUPTED, cells=cells, tokens=TOKENS)
    assert recovery(_ordered(whole))[0] == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose([cell.logits for cell in whole.cells], [cell.logits for cell in parts.cells], atol=1e-5)


def test_sequences_of_other_lengths_are_aligned_from_the_end() -> None:
    cells = [Cell(LAYERS, (-1,)), Cell(0, (-1, -2))]
    patched = inside_of(llama()).patch((9, 9, *CLEAN), CORRUPTED, cells=cells, tokens=TOKENS)
    assert patched.cells[0].logits == pytest.approx(patched.clean.logits, abs=1e-5)
    with pytest.raises(ValueError, match="outside the 5 positions"):
        inside_of(llama()).patch((9, 9, *CLEAN), CORRUPTED, cells=[Cell(0, (-6,))], tokens=TOKENS)


def test_no_hook_stays_behind_even_where_a_pass_fails() -> None:
    model = llama()
    inside = inside_of(model)
    before = model(torch.tensor([CORRUPTED])).logits
    inside.patch(CLEAN, CORRUPTED, cells=[Cell(1, (-1,))], tokens=TOKENS)
    with pytest.raises(Permanent, match="does not fit"):
        inside.states([tuple([3] * 1000)], layers=[1])
    assert torch.equal(model(torch.tensor([CORRUPTED])).logits, before)


def test_broken_weights_and_unknown_layers_are_told() -> None:
    model = llama()
    with pytest.raises(ValueError, match="layer 9 does not exist"):
        inside_of(model).states([CLEAN], layers=[9])
    with pytest.raises(ValueError, match="before the beginning"):
        inside_of(model).states([(3,)], layers=[1], positions=[-2])
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(Permanent, match="NaN"):
        inside_of(model).states([CLEAN], layers=[1])


def test_a_model_with_an_encoder_or_without_a_list_of_blocks_is_refused() -> None:
    sizes = {"vocab_size": 8, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    with pytest.raises(Permanent, match="encoder"):
        decoder_blocks(T5ForConditionalGeneration(T5Config(**sizes)))
    text = SimpleNamespace(num_hidden_layers=7)
    strange = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda decoder: text), modules=lambda: [])
    with pytest.raises(Permanent, match="no list of 7 decoder blocks"):
        decoder_blocks(strange)


def test_recovery_is_a_share_of_the_logit_difference_and_can_be_harm() -> None:
    def predicted(right: float, wrong: float) -> Predicted:
        return Predicted(0, (right, wrong))

    cells = (predicted(0, 1), predicted(3, 1), predicted(1, 1), predicted(0, 3))
    assert recovery(Patched(predicted(3, 1), predicted(0, 1), cells)) == pytest.approx((0, 1, 1 / 3, -2 / 3))
    with pytest.raises(ValueError, match="not above"):
        recovery(Patched(predicted(0, 1), predicted(0, 1), cells))


@pytest.mark.parametrize(
    ("layer_count", "most", "first", "layers"),
    [(2, 8, 0, (0, 1, 2)), (32, 5, 0, (0, 8, 16, 24, 32)), (2, 6, 1, (1, 2)), (1, 6, 1, (1,))],
)
def test_layers_are_spread_with_both_ends(layer_count: int, most: int, first: int, layers: tuple[int, ...]) -> None:
    assert evenly(layer_count, most=most, first=first) == layers


def test_tokens_have_their_own_texts() -> None:
    assert token_texts(word_tokenizer(), [4, 5]) == (WORDS[4], WORDS[5])


def _ordered(patched: Patched) -> Patched:
    """With the tokens in the order in which the clean run prefers the first: a random model has no right one."""

    def gap(one: Predicted) -> float:
        return one.logits[0] - one.logits[1]

    if gap(patched.clean) > gap(patched.corrupted):
        return patched

    def turned(one: Predicted) -> Predicted:
        return Predicted(one.best, one.logits[::-1])

    return Patched(turned(patched.clean), turned(patched.corrupted), tuple(map(turned, patched.cells)))
