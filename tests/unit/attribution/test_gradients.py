"""Projected gradients against torch's own, one example at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import save, tiny_llama, word_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from mendloop.attribution.adapters.gradients import ProjectedGradients, linear_modules, open_source
from mendloop.attribution.domain.settings import IndexSettings
from mendloop.attribution.ports import Text
from mendloop.core.errors import Permanent
from mendloop.models.encoding import encode_example

TEXTS = [
    Text("IN: w1 w2 OUT:", "w3"),
    Text("IN: w4 OUT:", "w5 w6 w7 w8"),
    Text("IN: w1 w9 w9 OUT:", "w2 w2"),
    Text("IN: w10 OUT:", "w0 w1"),
]
WHOLE = IndexSettings(k_in=64, k_out=64)


def source(model: Any = None, **settings: Any) -> ProjectedGradients:
    chosen = IndexSettings(**{"k_in": 64, "k_out": 64, **settings})
    return ProjectedGradients(model or tiny_llama(16), word_tokenizer(), settings=chosen, checkpoint="c")


def by_autograd(model: Any, text: Text, patterns: tuple[str, ...] = ("*",), *, eos: bool = True) -> dict[str, Any]:
    """The full gradient of each module's weight, (outputs, inputs)."""
    example = encode_example(word_tokenizer(), text.prompt, text.completion)
    ids = torch.tensor([example.input_ids])
    labels = ids.clone()
    labels[:, : example.prompt_length] = -100
    if not eos:
        labels[:, -1] = -100
    model.requires_grad_(True)
    model.zero_grad()
    logits = model(ids).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum").backward()
    modules = linear_modules(model, patterns)
    return {
        name: module.weight.grad.clone() if isinstance(module, torch.nn.Linear) else module.weight.grad.T.clone()
        for name, module in modules.items()
    }


def flat(gradients: dict[str, Any]) -> NDArray[np.float32]:
    return torch.cat([gradient.flatten() for gradient in gradients.values()]).numpy()


def test_without_projection_a_row_is_the_gradient_of_the_completions_loss() -> None:
    model = tiny_llama(16)
    expected = np.stack([flat(by_autograd(model, text)) for text in TEXTS])
    np.testing.assert_allclose(source(model).rows(TEXTS), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_loss_without_eos_leaves_the_eos_out() -> None:
    model = tiny_llama(16)
    expected = flat(by_autograd(model, TEXTS[1], eos=False))
    row = source(model, eos_in_loss=False).rows([TEXTS[1]])[0]
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_transposed_linear_layers_of_gpt2_give_the_same() -> None:
    config = GPT2Config(
        vocab_size=16, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=None, eos_token_id=2
    )
    model = GPT2LMHeadModel(config).eval()
    expected = flat(by_autograd(model, TEXTS[2], ("*.c_attn", "*.c_proj")))
    row = source(model, layers=("*.c_attn", "*.c_proj")).rows([TEXTS[2]])[0]
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_projected_row_is_the_full_gradient_between_the_two_directions() -> None:
    model = tiny_llama(16)
    name = "model.layers.1.mlp.up_proj"
    projected = source(model, layers=(name,), k_in=3, k_out=2)
    full_OI = by_autograd(model, TEXTS[0], (name,))[name]
    # linear: what the projection does to the full gradient is what it does to every single entry of it
    directions = projected._projections[name]
    expected_PJ = directions.outputs_OP.T @ full_OI @ directions.inputs_IJ
    np.testing.assert_allclose(projected.rows([TEXTS[0]])[0], expected_PJ.flatten().numpy(), rtol=1e-4, atol=1e-4)


def test_inner_products_of_projected_rows_are_unbiased() -> None:
    model = tiny_llama(16)
    layers = ("model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj")
    exact = np.stack([flat(by_autograd(model, text, layers)) for text in TEXTS])
    true = exact @ exact.T
    drawn = []
    for seed in range(300):
        rows = source(model, layers=layers, k_in=4, k_out=4, seed=seed).rows(TEXTS)
        drawn.append(rows @ rows.T)
    errors = np.stack(drawn) - true
    standard = errors.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(errors.mean(axis=0)) < 4 * standard).all()
    assert (errors.std(axis=0) > 0).all(), "a projection that keeps everything would show nothing"


def test_rows_do_not_depend_on_what_else_is_in_the_batch() -> None:
    alone = np.concatenate([source().rows([text]) for text in TEXTS])
    np.testing.assert_allclose(source().rows(TEXTS), alone, rtol=1e-4, atol=1e-4)


def test_layers_are_chosen_by_pattern_and_an_unknown_one_is_answered_with_the_names() -> None:
    chosen = source(layers=("*.mlp.*",))
    assert {block.name.rsplit(".", 1)[-1] for block in chosen.blocks} == {"gate_proj", "up_proj", "down_proj"}
    with pytest.raises(Permanent, match=r"no linear module matches \*\.ffn; .*q_proj"):
        source(layers=("*.ffn",))


def test_an_example_longer_than_the_context_is_refused_with_its_length() -> None:
    with pytest.raises(Permanent, match="82 tokens, the context 64"):
        source().rows([Text("IN: OUT:", " ".join(["w1"] * 79))])


def test_broken_weights_are_refused() -> None:
    model = tiny_llama(16)
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(Permanent, match="NaN or infinite"):
        source(model).rows(TEXTS)


def test_the_identity_follows_what_decides_a_row_and_nothing_else() -> None:
    assert source().identity == source(shard_rows=3).identity
    assert len({source().identity, source(seed=1).identity, source(k_in=3).identity}) == 3


def test_adam_scales_by_the_fourth_root_of_its_second_moments_on_each_side(tmp_path: Path) -> None:
    model = tiny_llama(16)
    name = "model.layers.0.mlp.up_proj"
    plain = by_autograd(model, TEXTS[0], (name,))[name]
    rows_O, columns_I = torch.rand(32) + 0.1, torch.rand(16) + 0.1
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    optimizer.step()  # makes the state; the gradients are those that by_autograd left
    for parameter, state in zip(model.parameters(), optimizer.state_dict()["state"].values(), strict=True):
        state["exp_avg_sq"].fill_(1.0)
        if parameter is model.model.layers[0].mlp.up_proj.weight:
            state["exp_avg_sq"].copy_(rows_O[:, None] * columns_I[None, :])
    directory = save(tmp_path, model, word_tokenizer())
    torch.save(optimizer.state_dict(), directory / "optimizer.pt")
    opened = open_source(directory, settings=IndexSettings(layers=(name,), k_in=64, k_out=64, uses_adam=True))
    expected = plain / (rows_O[:, None] * columns_I[None, :]) ** 0.25
    np.testing.assert_allclose(opened.rows([TEXTS[0]])[0], expected.flatten().numpy(), rtol=1e-3, atol=1e-4)


def test_adam_without_a_stored_optimizer_says_what_to_do(tmp_path: Path) -> None:
    directory = save(tmp_path, tiny_llama(16), word_tokenizer())
    with pytest.raises(Permanent, match=r"holds no optimizer\.pt"):
        open_source(directory, settings=IndexSettings(uses_adam=True))
