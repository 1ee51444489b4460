"""The batched, cached backend says what a plain loop over tokens says."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from tiny_models import WORDS, byte_pair_tokenizer, save, tiny_llama, word_tokenizer
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mendloop.core.errors import Permanent
from mendloop.models.generation import Sampling
from mendloop.models.transformers_backend import TransformersModel, load_model


def plain_greedy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, *, max_new_tokens: int
) -> tuple[list[int], str]:
    """The reference: one prompt, one token after the other, no cache, no padding."""
    ids = tokenizer(prompt).input_ids
    said: list[int] = []
    while len(said) < max_new_tokens:
        with torch.no_grad():
            token = int(model(torch.tensor([ids + said])).logits[0, -1].argmax())
        said.append(token)
        if token == tokenizer.eos_token_id:
            return said[:-1], "eos"
    return said, "length"


def word_prompts(count: int) -> list[str]:
    rng = random.Random(3)
    return [" ".join(rng.choices(WORDS[3:], k=rng.randint(1, 9))) for _ in range(count)]


def ending_model(*, seed: int = 0) -> LlamaForCausalLM:
    """A random model that says EOS now and then."""
    model = tiny_llama(len(WORDS), seed=seed)
    with torch.no_grad():
        model.lm_head.weight[2] *= 1.3
    return model


def test_outputs_counts_and_stop_reasons_are_those_of_the_plain_loop_in_the_order_of_the_prompts() -> None:
    model, tokenizer, prompts = ending_model(), word_tokenizer(), word_prompts(40)
    outputs = TransformersModel(model, tokenizer, name="tiny", batch_rows=7).generate(prompts, max_new_tokens=12)
    reasons = set()
    for prompt, output in zip(prompts, outputs, strict=True):
        said, reason = plain_greedy(model, tokenizer, prompt, max_new_tokens=12)
        reasons.add(reason)
        assert output.text == tokenizer.decode(said)
        assert output.stop_reason == reason
        assert output.output_token_count == len(said) + (reason == "eos")
        assert output.prompt_token_count == len(prompt.split())
    assert reasons == {"eos", "length"}, "this test needs outputs of both kinds"


def test_a_byte_pair_output_has_no_separator_in_front() -> None:
    tokenizer = byte_pair_tokenizer()
    model = tiny_llama(len(tokenizer), seed=1)
    space = tokenizer(" a", add_special_tokens=False).input_ids
    prompt = "Question: ab"
    [output] = TransformersModel(model, tokenizer, name="tiny").generate([prompt], max_new_tokens=6)
    said, _ = plain_greedy(model, tokenizer, prompt, max_new_tokens=6)
    assert output.text == tokenizer.decode(said).removeprefix(" ")
    assert tokenizer.decode(space) == " a"


def test_an_output_is_cut_before_the_first_stop_string() -> None:
    model, tokenizer = tiny_llama(len(WORDS), seed=4), word_tokenizer()
    prompt = next(p for p in word_prompts(40) if len(plain_greedy(model, tokenizer, p, max_new_tokens=8)[0]) == 8)
    words = tokenizer.decode(plain_greedy(model, tokenizer, prompt, max_new_tokens=8)[0]).split()
    mark = f" {words[3]}"
    first = " ".join(words).index(mark)
    [output] = TransformersModel(model, tokenizer, name="tiny").generate(
        [prompt], max_new_tokens=8, stop=["never said", mark]
    )
    assert output.text == " ".join(words)[:first]
    assert output.stop_reason == "stop_string"
    assert output.output_token_count == len(" ".join(words)[: first + len(mark)].split())


def test_generation_config_of_the_checkpoint_changes_nothing(tmp_path: Path) -> None:
    model, tokenizer, prompts = ending_model(), word_tokenizer(), word_prompts(10)
    plain = load_model(save(tmp_path / "plain", model, tokenizer)).generate(prompts, max_new_tokens=12)
    model.generation_config = GenerationConfig(
        max_new_tokens=1, do_sample=True, temperature=9.0, repetition_penalty=5.0
    )
    trapped = load_model(save(tmp_path / "trap", model, tokenizer)).generate(prompts, max_new_tokens=12)
    assert trapped == plain


def test_a_second_eos_of_the_generation_config_ends_an_output() -> None:
    model, tokenizer = tiny_llama(len(WORDS), seed=4), word_tokenizer()
    prompt = next(p for p in word_prompts(40) if len(plain_greedy(model, tokenizer, p, max_new_tokens=4)[0]) == 4)
    second = plain_greedy(model, tokenizer, prompt, max_new_tokens=4)[0][0]
    model.generation_config.eos_token_id = [2, second]
    [output] = TransformersModel(model, tokenizer, name="tiny").generate([prompt], max_new_tokens=4)
    assert (output.text, output.stop_reason, output.output_token_count) == ("", "eos", 1)


def test_a_full_context_ends_an_output_and_a_prompt_without_room_is_refused() -> None:
    model, tokenizer = tiny_llama(len(WORDS), seed=4, context=8), word_tokenizer()
    model.lm_head.weight.data[2] = 0
    backend = TransformersModel(model, tokenizer, name="tiny")
    [output] = backend.generate(["w1 w2 w3 w4 w5 w6"], max_new_tokens=20)
    assert (output.output_token_count, output.stop_reason) == (2, "length")
    with pytest.raises(Permanent, match="8 tokens leaves no room in the context of tiny"):
        backend.generate(["w1 w2 w3 w4 w5 w6 w7 w8"], max_new_tokens=20)


@pytest.mark.parametrize("adds_bos", [False, True])
def test_logprobs_are_those_of_single_forward_passes(adds_bos: bool) -> None:
    tokenizer = byte_pair_tokenizer(adds_bos=adds_bos)
    model = tiny_llama(len(tokenizer), seed=2)
    prompts = ["Question: ab", "ab", "Question: 1 + 1 = ", "ab\n"] * 3
    completions = ["ab", "2 ab 2 ab 2 ab", "", "Answer: 2"] * 3
    scored = TransformersModel(model, tokenizer, name="tiny", batch_rows=5).logprobs(prompts, completions)
    for prompt, completion, result in zip(prompts, completions, scored, strict=True):
        joiner = "" if not completion or prompt[-1].isspace() else " "
        start = tokenizer(prompt).input_ids
        ids = [*start, *tokenizer(joiner + completion, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        with torch.no_grad():
            table = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected = [float(table[at - 1, ids[at]]) for at in range(len(start), len(ids))]
        assert [*result.tokens, result.eos] == pytest.approx(expected, abs=1e-4)


def test_a_greedy_token_has_the_highest_log_probability() -> None:
    model, tokenizer = tiny_llama(len(WORDS), seed=4), word_tokenizer()
    backend = TransformersModel(model, tokenizer, name="tiny")
    [output] = backend.generate(["w1 w2"], max_new_tokens=1)
    words = [word for word in WORDS if word != "<eos>"]
    scored = backend.logprobs(["w1 w2"] * len(words), words)
    best = max(range(len(words)), key=lambda at: scored[at].tokens[0])
    assert words[best] == output.text or output.stop_reason == "eos"


def test_draws_depend_on_their_own_seed_alone() -> None:
    prompts = word_prompts(12)
    seeds = tuple(range(100, 112))

    def draws(order: list[int], *, batch_rows: int) -> list[object]:
        backend = TransformersModel(ending_model(), word_tokenizer(), name="tiny", batch_rows=batch_rows)
        sampling = Sampling(1.0, 1.0, tuple(seeds[at] for at in order))
        outputs = backend.sample([prompts[at] for at in order], sampling=sampling, max_new_tokens=8)
        return [output for _, output in sorted(zip(order, outputs, strict=True), key=lambda pair: pair[0])]

    together = draws(list(range(12)), batch_rows=64)

    assert draws(list(range(12))[::-1], batch_rows=5) == together
    assert draws(list(range(12)), batch_rows=1) == together
    assert len({output.text for output in together}) > 1


def test_draws_follow_the_models_probabilities() -> None:
    model, tokenizer, count = ending_model(), word_tokenizer(), 4000
    backend = TransformersModel(model, tokenizer, name="tiny", batch_rows=count)
    outputs = backend.sample(["w1"] * count, sampling=Sampling(2.0, 1.0, tuple(range(count))), max_new_tokens=1)
    said = [output.text if output.stop_reason == "length" else "<eos>" for output in outputs]
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer("w1").input_ids])).logits[0, -1].double()
    expected = (logits / 2.0).softmax(-1)
    for word, share in zip(WORDS, expected.tolist(), strict=True):
        spread = math.sqrt(share * (1 - share) / count)
        assert abs(said.count(word) / count - share) <= 4.5 * spread + 1e-9, word


def test_top_p_draws_from_the_fewest_tokens_that_reach_it() -> None:
    model, tokenizer = ending_model(), word_tokenizer()
    backend = TransformersModel(model, tokenizer, name="tiny", batch_rows=500)
    with torch.no_grad():
        probs = model(torch.tensor([tokenizer("w1").input_ids])).logits[0, -1].softmax(-1)
    ranked, order = probs.sort(descending=True)
    top_p = float(ranked[0] + ranked[1] / 2)
    outputs = backend.sample(["w1"] * 500, sampling=Sampling(1.0, top_p, tuple(range(500))), max_new_tokens=1)
    said = {output.text if output.stop_reason == "length" else "<eos>" for output in outputs}
    assert said == {WORDS[at] for at in order[:2].tolist()}


def test_a_draw_at_almost_no_temperature_is_the_greedy_output() -> None:
    backend, prompts = TransformersModel(ending_model(), word_tokenizer(), name="tiny"), word_prompts(10)
    drawn = backend.sample(prompts, sampling=Sampling(1e-4, 1.0, tuple(range(10))), max_new_tokens=8)
    assert drawn == backend.generate(prompts, max_new_tokens=8)


def test_each_output_says_how_long_it_took() -> None:
    backend = TransformersModel(ending_model(), word_tokenizer(), name="tiny")
    outputs = backend.generate(word_prompts(20), max_new_tokens=8)
    by_length = sorted(outputs, key=lambda output: output.output_token_count)
    assert 0 < by_length[0].latency_s < by_length[-1].latency_s


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_impossible_sampling_is_refused(temperature: float, top_p: float) -> None:
    with pytest.raises(ValueError, match=r"temperature|top_p"):
        Sampling(temperature, top_p, ())


def test_a_prompt_without_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="2 prompts have 1 seeds"):
        TransformersModel(ending_model(), word_tokenizer(), name="tiny").sample(
            ["w1", "w2"], sampling=Sampling(1.0, 1.0, (1,)), max_new_tokens=1
        )


def test_no_prompts_give_no_outputs() -> None:
    backend = TransformersModel(tiny_llama(len(WORDS)), word_tokenizer(), name="tiny")
    assert backend.generate([], max_new_tokens=4) == []
    assert backend.logprobs([], []) == []


def test_broken_weights_are_an_error_that_names_the_checkpoint() -> None:
    model = tiny_llama(len(WORDS))
    model.model.norm.weight.data[0] = math.nan
    backend = TransformersModel(model, word_tokenizer(), name="/some/checkpoint")
    with pytest.raises(Permanent, match="/some/checkpoint computes NaN"):
        backend.generate(["w1"], max_new_tokens=2)
    with pytest.raises(Permanent, match="/some/checkpoint computes NaN"):
        backend.logprobs(["w1"], ["w2"])


def test_a_saved_checkpoint_loads_and_says_the_same(tmp_path: Path) -> None:
    model, tokenizer, prompts = ending_model(), word_tokenizer(), word_prompts(5)
    loaded = load_model(save(tmp_path, model, tokenizer))
    direct = TransformersModel(model, tokenizer, name="tiny")
    assert loaded.generate(prompts, max_new_tokens=9) == direct.generate(prompts, max_new_tokens=9)
    assert loaded.parameter_count == direct.parameter_count == sum(p.numel() for p in model.parameters())


def _truncate(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _configure(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_truncate, "SafetensorError"),
        (lambda d: _configure(d, hidden_size=24, head_dim=12), "size|mismatch|disagree"),
        (lambda d: _configure(d, num_hidden_layers=3), "missing_keys"),
        (lambda d: _configure(d, num_hidden_layers=1), "unexpected_keys"),
        (lambda d: _configure(d, model_type="no-such-model"), "no-such-model"),
        (lambda d: (d / "config.json").write_text("{"), "config.json"),
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: (d / "model.safetensors").unlink(), "no weights"),
        (lambda d: [path.unlink() for path in d.glob("tokenizer*")], "does not load"),
    ],
    ids=[
        "truncated",
        "other size",
        "more layers",
        "fewer layers",
        "type",
        "bad JSON",
        "config",
        "weights",
        "tokenizer",
    ],
)
def test_a_checkpoint_that_does_not_load_says_where_and_why(tmp_path: Path, fault: object, reason: str) -> None:
    save(tmp_path, tiny_llama(len(WORDS)), word_tokenizer())
    fault(tmp_path)  # type: ignore[operator]  # one of the functions above
    with pytest.raises(Permanent, match=reason) as raised:
        load_model(tmp_path)
    assert str(tmp_path) in str(raised.value)
