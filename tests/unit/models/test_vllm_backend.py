"""The client's side of vLLM: the same outcomes as in process, and no answer of a bad server becomes a score."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_vllm import Bend, fake_vllm
from tiny_models import WORDS, save, tiny_llama, word_tokenizer

from mendloop.core.errors import Permanent, Retryable
from mendloop.models.pace import Pace
from mendloop.models.transformers_backend import TransformersModel
from mendloop.models.vllm_backend import Served, VllmModel
from mendloop.models.vllm_client import VllmClient
from mendloop.models.vllm_probe import why_restart
from mendloop.models.vllm_server import ServerOptions, command_of, why_not_on_cpu
from mendloop.models.vllm_serving import GivenServer, OwnServer

MODEL, TOKENIZER = tiny_llama(len(WORDS), seed=4), word_tokenizer()
LOCAL = TransformersModel(MODEL, TOKENIZER, name="tiny")


class Line:
    """A connection that counts how often the server was brought back."""

    def __init__(self, url: str, *, on_revive: Callable[[], None] = lambda: None) -> None:
        self._client, self._on_revive = VllmClient(url), on_revive
        self.revivals: list[str] = []

    def client(self) -> VllmClient:
        return self._client

    def revive(self, reason: str) -> None:
        self.revivals.append(reason)
        self._on_revive()


@contextmanager
def served(bend: Bend | None = None, *, max_model_len: int = 65, **line: Any) -> Iterator[tuple[VllmModel, Line]]:
    with fake_vllm(MODEL, TOKENIZER, bend=bend, max_model_len=max_model_len) as url:
        connection = Line(url, **line)
        facts = Served("tiny", "dir", TOKENIZER, LOCAL.eos_ids, LOCAL.context, max_model_len)
        yield VllmModel(facts, connection=connection, pace=Pace(), uses_gpu=False), connection


def prompts(count: int) -> list[str]:
    rng = random.Random(3)
    return [" ".join(rng.choices(WORDS[3:], k=rng.randint(1, 9))) for _ in range(count)]


def test_outputs_and_log_probabilities_are_those_of_the_backend_in_process() -> None:
    with served() as (model, _):
        assert model.generate(prompts(20), max_new_tokens=8) == LOCAL.generate(prompts(20), max_new_tokens=8)
        ours, theirs = (m.logprobs(prompts(10), prompts(10)[::-1]) for m in (LOCAL, model))
    for expected, said in zip(ours, theirs, strict=True):
        assert (*said.tokens, said.eos) == pytest.approx((*expected.tokens, expected.eos), abs=1e-4)
        assert said.is_greedy == expected.is_greedy


def test_a_stop_string_counts_from_the_output_not_from_the_prompts_end() -> None:
    first = LOCAL.generate(["w1 w2"], max_new_tokens=1)[0].text
    texts = ["w1 w2", *prompts(10)]
    marks = [f" {first}", " w3 w3"]
    with served() as (model, _):
        outputs = model.generate(texts, max_new_tokens=6, stop=marks)
    assert outputs == LOCAL.generate(texts, max_new_tokens=6, stop=marks)
    assert outputs[0].output_token_count > 1


def test_a_full_context_is_scored_and_a_text_beyond_it_in_windows() -> None:
    long = " ".join(["w1 w2 w3"] * 40)
    with served() as (model, _):
        [theirs] = model.logprobs([""], [long])
        with pytest.raises(Permanent, match="the context of dir has 64"):
            model.logprobs(["w1"], [long])
    [ours] = LOCAL.logprobs([""], [long])
    assert theirs.tokens == pytest.approx(ours.tokens, abs=1e-4)


def test_a_server_that_dies_in_the_middle_is_brought_back_and_asked_for_the_rest() -> None:
    deaths = iter(range(1000))
    texts = prompts(60)
    with served(lambda _request, _answer: (0, None) if 20 <= next(deaths) < 40 else None) as (model, line):
        outputs = model.generate(texts, max_new_tokens=6)
    assert outputs == LOCAL.generate(texts, max_new_tokens=6)
    assert line.revivals


def test_a_server_that_keeps_failing_is_given_up_with_its_words() -> None:
    broken = {"error": {"message": "EngineCore is dead"}}
    with served(lambda _request, _answer: (500, broken)) as (model, line), pytest.raises(Retryable, match="EngineCore"):
        model.generate(prompts(5), max_new_tokens=4)
    assert len(line.revivals) == 2


def test_a_busy_server_is_asked_less_and_answers_all() -> None:
    refusals = iter([429, 503] * 5)
    bend: Bend = lambda _request, _answer: (status, {}) if (status := next(refusals, 0)) else None  # noqa: E731
    with served(bend) as (model, line):
        outputs = model.generate(prompts(30), max_new_tokens=4)
        assert model.pace.refusal_count == 10
    assert outputs == LOCAL.generate(prompts(30), max_new_tokens=4)
    assert not line.revivals


def _with_choice(**changes: Any) -> Bend:
    return lambda _request, answer: (200, {"choices": [{**answer["choices"][0], **changes}]})


def _nan(request: dict[str, Any], answer: dict[str, Any]) -> tuple[int, Any]:
    choice = json.loads(json.dumps(answer["choices"][0]))
    choice["prompt_logprobs"][-1][str(request["prompt"][-1])]["logprob"] = float("nan")
    return 200, {"choices": [choice]}


def _floor(request: dict[str, Any], answer: dict[str, Any]) -> tuple[int, Any]:
    choice = json.loads(json.dumps(answer["choices"][0]))
    choice["logprobs"]["top_logprobs"][0] = {f"token_id:{request['logprob_token_ids'][0]}": -9999.0}
    return 200, {"choices": [choice]}


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (_nan, "computes NaN or infinity"),
        (_floor, "computes NaN or infinity"),
        (_with_choice(prompt_logprobs=None), "does not give the log-probability of every token"),
        (_with_choice(logprobs=None), "does not give the log-probability of every token"),
        (_with_choice(prompt_token_ids=[0, 1]), "changed a prompt"),
    ],
    ids=["NaN", "minus infinity", "no prompt", "no last token", "other prompt"],
)
def test_log_probabilities_that_cannot_be_right_are_an_error(bend: Bend, words: str) -> None:
    with served(bend) as (model, _), pytest.raises(Permanent, match=words):
        model.logprobs(["w1 w2"], ["w3 w4"])


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda *_: (200, {"choices": []}), "0 outputs to one prompt"),
        (lambda *_: (200, {}), "0 outputs to one prompt"),
        (_with_choice(token_ids=None), "without token ids"),
        (_with_choice(token_ids=[]), "without token ids"),
        (_with_choice(token_ids=[5], finish_reason="length"), "after 1 of 6 tokens .* --generation-config vllm"),
        (lambda *_: (404, {"error": {"message": "The model `tiny` does not exist."}}), "`tiny` does not exist"),
        (lambda *_: (401, {"error": "Unauthorized"}), "401"),
    ],
    ids=["no choice", "no choices", "no ids", "empty", "generation_config", "other model", "key"],
)
def test_an_output_that_cannot_be_right_is_an_error(bend: Bend, words: str) -> None:
    with served(bend) as (model, _), pytest.raises(Permanent, match=words):
        model.generate(["w1 w2"], max_new_tokens=6)


def test_every_request_says_all_that_a_generation_config_could_change() -> None:
    seen: list[dict[str, Any]] = []
    with served(lambda request, _: seen.append(request)) as (model, _):  # type: ignore[func-returns-value]
        model.generate(["w1 w2"], max_new_tokens=6)
    [request] = seen
    said = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "max_tokens": 6}
    assert said.items() <= request.items()
    assert request["stop_token_ids"] == sorted(LOCAL.eos_ids)


def test_a_server_with_a_shorter_context_is_refused_not_cut() -> None:
    with served(max_model_len=10) as (model, _), pytest.raises(Permanent, match="larger --max-model-len"):
        model.generate(["w1 w2 w3 w4 w5"], max_new_tokens=8)


def test_a_given_server_must_serve_the_checkpoint_itself(tmp_path: Path) -> None:
    own = save(tmp_path / "own", MODEL, TOKENIZER)
    other = save(tmp_path / "other", tiny_llama(len(WORDS), seed=5), TOKENIZER)
    with fake_vllm(MODEL, TOKENIZER) as url:
        given = GivenServer(url)
        assert given.model(own).generate(prompts(3), max_new_tokens=4) == LOCAL.generate(prompts(3), max_new_tokens=4)
        with pytest.raises(Permanent, match=r"serves 'tiny', not .*other in float32: .* differ by up to .* nats"):
            given.model(other)
    with pytest.raises(Retryable, match="no vLLM server answers"):
        GivenServer(url).model(own)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Permanent, match="give http://HOST:PORT"):
        GivenServer(url)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"transformers_version": "6.0"}, ""),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps"),
    ],
)
def test_other_weights_alone_need_no_new_server(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    old, new = (save(tmp_path / name, tiny_llama(len(WORDS)), TOKENIZER) for name in ("old", "new"))
    config = json.loads((new / "config.json").read_text())
    (new / "config.json").write_text(json.dumps({**config, **change}))
    assert reason in why_restart(old, new)
    assert bool(why_restart(old, new)) == bool(reason)


def test_tied_embeddings_always_need_a_new_server(tmp_path: Path) -> None:
    old, new = (save(tmp_path / n, tiny_llama(len(WORDS), tied=True), TOKENIZER) for n in ("old", "new"))
    assert why_restart(old, new) == "input and output embeddings are tied"
    for directory in (old, new):  # not said: it may be tied
        config = json.loads((directory / "config.json").read_text())
        del config["tie_word_embeddings"]
        (directory / "config.json").write_text(json.dumps(config))
    assert why_restart(old, new) == "input and output embeddings are tied"


@pytest.mark.parametrize(("hidden", "reason"), [(16, "attention heads have size 8"), (64, "")])
def test_a_head_size_that_kills_the_engine_at_its_first_request_is_known_before(
    tmp_path: Path, hidden: int, reason: str
) -> None:
    checkpoint = save(tmp_path, tiny_llama(len(WORDS), hidden=hidden), TOKENIZER)

    said = why_not_on_cpu(checkpoint)

    assert said.startswith(reason and f"its {reason}")
    assert bool(said) == bool(reason)


def test_a_checkpoint_that_a_cpu_server_cannot_compute_starts_none(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "model", tiny_llama(len(WORDS), hidden=16), TOKENIZER)
    options = ServerOptions(python=tmp_path / "no python", log_dir=tmp_path / "log", is_on_cpu=True)
    server = OwnServer(options, environment={}, uses_gpu=False)

    with pytest.raises(Permanent, match=r"size 8, on a CPU they may have 32, .* suite.backend transformers"):
        server.model(checkpoint)
    assert server.pid is None


def test_choices_that_differ_in_their_last_token_are_one_request() -> None:
    texts = [(prompt, word) for prompt in ("w1 w2", "w3") for word in ("w4", "w5", "w6", "w4 w7", "w4 w8")]
    with served() as (model, _):
        theirs = model.continuation_logprobs(*zip(*texts, strict=True))
        assert model.answered_count == 4
    for found, ours in zip(theirs, LOCAL.continuation_logprobs(*zip(*texts, strict=True)), strict=True):
        assert found.tokens == pytest.approx(ours.tokens, abs=1e-4)
        assert (found.eos, found.is_greedy) == (0.0, ours.is_greedy)


def test_a_server_is_started_in_the_type_of_the_checkpoint_and_listens_to_this_machine_only(tmp_path: Path) -> None:
    directory = save(tmp_path, tiny_llama(len(WORDS)), TOKENIZER)
    options = ServerOptions(python=Path("python"), log_dir=tmp_path, is_on_cpu=True)
    command = " ".join(command_of(directory, options=options, port=7, name="n"))
    assert "--dtype float32" in command
    assert "--host 127.0.0.1 --port 7" in command
    assert "--generation-config vllm" in command
    assert "--max-model-len 65" in command
