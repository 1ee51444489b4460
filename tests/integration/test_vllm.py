"""Checkpoints behind a real vLLM server on the CPU say what transformers says, through swaps, deaths and traps.

One server serves the tests in the order of this file: each start takes most of a minute.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_models import WORDS, save, tiny_llama, word_tokenizer
from transformers import GenerationConfig
from waiting import wait_until

from mendloop.core.errors import Permanent
from mendloop.models.generation import Sampling
from mendloop.models.transformers_backend import TransformersModel, load_model
from mendloop.models.vllm_backend import VllmModel
from mendloop.models.vllm_cpu import EnvironmentUnavailable, vllm_python
from mendloop.models.vllm_probe import difference, reference_of, tolerance_of, why_restart
from mendloop.models.vllm_server import ServerOptions
from mendloop.models.vllm_serving import GivenServer, OwnServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

TOLERANCE = {"abs": 1e-4, "rel": 1e-4}
"""Of a log-probability, in nats: float32 sums in another order."""
CONTEXT = 64


def _python() -> Path:
    try:
        return vllm_python(Path(os.environ.get("MENDLOOP_CACHE") or "~/.cache/mendloop"))
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """a and b: untied, alike but for the weights; the generation_config of a is full of traps. tied: tied."""
    root, tokenizer = tmp_path_factory.mktemp("checkpoints"), word_tokenizer()
    made = {}
    for seed, (name, tied) in enumerate({"a": False, "b": False, "tied": True}.items()):
        model = tiny_llama(len(WORDS), seed=seed, context=CONTEXT, hidden=64, tied=tied)
        if name == "a":
            model.generation_config = GenerationConfig(
                max_new_tokens=1, do_sample=True, temperature=9.0, repetition_penalty=5.0
            )
        made[name] = save(root / name, model, tokenizer)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    python = _python()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MENDLOOP_")}
    options = ServerOptions(python=python, log_dir=tmp_path_factory.mktemp("vllm"), is_on_cpu=True)
    own = OwnServer(options, environment={**environment, "OMP_NUM_THREADS": "1"}, uses_gpu=False)
    yield own
    own.close()


def prompts(count: int, *, longest: int = 12) -> list[str]:
    rng = random.Random(5)
    return [" ".join(rng.choices(WORDS[3:], k=rng.randint(1, longest))) for _ in range(count)]


def assert_alike(served: VllmModel, local: TransformersModel, *, count: int = 60) -> None:
    """Equal greedy outputs, counts and reasons; log-probabilities within TOLERANCE, and the same greedy marks."""
    texts = prompts(count)
    assert served.generate(texts, max_new_tokens=10) == local.generate(texts, max_new_tokens=10)
    targets = prompts(count, longest=5)[::-1]
    for ours, theirs in zip(local.logprobs(texts, targets), served.logprobs(texts, targets), strict=True):
        assert theirs.tokens == pytest.approx(ours.tokens, **TOLERANCE)
        assert theirs.eos == pytest.approx(ours.eos, **TOLERANCE)
        assert theirs.is_greedy == ours.is_greedy


def test_both_backends_give_the_same_outputs_and_log_probabilities(
    server: OwnServer, checkpoints: dict[str, Path]
) -> None:
    # float32 stays float32 (bfloat16 is off by 1e-2), and nothing of the generation_config counts
    assert_alike(server.model(checkpoints["a"]), load_model(checkpoints["a"]))


def test_both_backends_score_the_choices_of_a_question_alike(server: OwnServer, checkpoints: dict[str, Path]) -> None:
    served, local = server.model(checkpoints["a"]), load_model(checkpoints["a"])
    choices = [*WORDS[5:], "w1 w2", "w1 w3", "w4 w4 w4"]
    asked = [(prompt, choice) for prompt in prompts(5) for choice in choices]
    texts, completions = [prompt for prompt, _ in asked], [choice for _, choice in asked]
    before = served.answered_count

    theirs = served.continuation_logprobs(texts, completions)

    assert served.answered_count - before == 5 * 3, "one-token choices, w1 and w4 w4: one request each"
    for found, ours in zip(theirs, local.continuation_logprobs(texts, completions), strict=True):
        assert found.tokens == pytest.approx(ours.tokens, **TOLERANCE)
        assert (found.eos, found.is_greedy) == (0.0, ours.is_greedy)
    assert any(found.is_greedy for found in theirs)


def test_both_backends_stop_at_the_same_strings_and_at_a_full_context(
    server: OwnServer, checkpoints: dict[str, Path]
) -> None:
    served, local = server.model(checkpoints["a"]), load_model(checkpoints["a"])
    texts = [*prompts(30), " ".join(["w1"] * (CONTEXT - 2))]
    outputs = local.generate(texts, max_new_tokens=8, stop=[" w3 w3", " w7"])
    assert served.generate(texts, max_new_tokens=8, stop=[" w3 w3", " w7"]) == outputs
    assert {"length", "stop_string"} <= {output.stop_reason for output in outputs}, "this test needs both"
    assert outputs[-1].output_token_count <= 2


def test_both_backends_score_a_text_longer_than_the_context(server: OwnServer, checkpoints: dict[str, Path]) -> None:
    long = " ".join(prompts(30))
    ours, theirs = (
        model.logprobs([""], [long])[0] for model in (load_model(checkpoints["a"]), server.model(checkpoints["a"]))
    )
    assert len(ours.tokens) > CONTEXT
    assert theirs.tokens == pytest.approx(ours.tokens, **TOLERANCE)
    with pytest.raises(Permanent, match="tokens, the context of"):
        server.model(checkpoints["a"]).logprobs(["w1"], [long])


def test_draws_depend_on_their_own_seed_alone(server: OwnServer, checkpoints: dict[str, Path]) -> None:
    served = server.model(checkpoints["a"])
    forward = served.sample(prompts(8), sampling=Sampling(1.0, 1.0, tuple(range(8))), max_new_tokens=8)
    back = served.sample(prompts(8)[::-1], sampling=Sampling(1.0, 1.0, tuple(range(8))[::-1]), max_new_tokens=8)
    assert back[::-1] == forward
    other = served.sample(prompts(8), sampling=Sampling(1.0, 1.0, tuple(range(50, 58))), max_new_tokens=8)
    assert other != forward


def test_a_server_given_by_url_serves_the_checkpoint_or_is_refused(
    server: OwnServer, checkpoints: dict[str, Path]
) -> None:
    served = server.model(checkpoints["a"])
    client = server.client()
    given = GivenServer(client.url, api_key=client.api_key, uses_gpu=False)

    assert given.model(checkpoints["a"]).generate(prompts(3), max_new_tokens=4) == served.generate(
        prompts(3), max_new_tokens=4
    )
    with pytest.raises(Permanent, match=r"differ by up to .* nats"):
        given.model(checkpoints["b"])
    with pytest.raises(Permanent, match="401"):
        GivenServer(client.url, uses_gpu=False).model(checkpoints["a"])


def test_other_weights_of_the_same_shape_need_no_new_server(
    server: OwnServer, checkpoints: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    server.model(checkpoints["a"])
    before = server.pid
    with caplog.at_level(logging.INFO):
        served = server.model(checkpoints["b"])
    assert server.pid == before
    assert "vLLM serves new weights" in [record.message for record in caplog.records]
    assert_alike(served, load_model(checkpoints["b"]))


def test_a_checkpoint_that_does_not_load_leaves_the_server_alone(
    server: OwnServer, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    served, before = server.model(checkpoints["b"]), server.pid
    broken = save(tmp_path / "broken", tiny_llama(len(WORDS), context=CONTEXT, hidden=64), word_tokenizer())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    nan = tiny_llama(len(WORDS), context=CONTEXT, hidden=64)
    nan.model.norm.weight.data[0] = float("nan")

    with pytest.raises(Permanent, match="does not load"):
        server.model(broken)
    with pytest.raises(Permanent, match="computes NaN"):
        server.model(save(tmp_path / "nan", nan, word_tokenizer()))
    with pytest.raises(Permanent, match="does not exist"):
        server.model(tmp_path / "nowhere")
    assert server.pid == before
    assert len(served.generate(["w1"], max_new_tokens=2)) == 1


def test_tied_embeddings_get_a_server_of_their_own_and_a_killed_server_comes_back_without_a_missing_item(
    server: OwnServer, checkpoints: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    server.model(checkpoints["b"])
    before = server.pid
    with caplog.at_level(logging.INFO):
        served = server.model(checkpoints["tied"])
    assert server.pid != before
    assert "input and output embeddings are tied" in why_restart(checkpoints["tied"], checkpoints["tied"])
    assert_alike(served, load_model(checkpoints["tied"]))

    texts, expected = prompts(3000), load_model(checkpoints["tied"]).generate(prompts(3000), max_new_tokens=10)
    first = server.pid
    assert first is not None
    outputs: list[object] = []
    asking = threading.Thread(target=lambda: outputs.extend(served.generate(texts, max_new_tokens=10)))
    asking.start()
    wait_until(lambda: served.answered_count > 500, deadline_s=120)
    os.killpg(first, signal.SIGKILL)
    asking.join()
    assert outputs == expected
    assert server.pid != first


def test_tied_embeddings_swapped_without_restart_would_be_wrong_and_the_probe_sees_it(
    server: OwnServer, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    served = server.model(checkpoints["tied"])
    other = tiny_llama(len(WORDS), seed=9, context=CONTEXT, hidden=64, tied=True)
    reference = reference_of(save(tmp_path / "tied-2", other, word_tokenizer()))

    client = server.client()
    arguments = {"weights_path": str(reference.directory)}
    client.post("/collective_rpc", {"method": "reload_weights", "kwargs": arguments})
    client.post("/reset_prefix_cache")

    off = difference(reference, served.token_logprobs([reference.probe])[0])
    assert off > tolerance_of("float32")


def test_mend_eval_measures_the_same_with_both_backends(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    # a process of its own, server included, as a person starts it
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MENDLOOP_")}
    environment |= {"MENDLOOP_VLLM_PYTHON": str(_python()), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    said, rows = {}, {}
    for backend in ("transformers", "vllm"):
        out = tmp_path / backend
        command = [sys.executable, "-m", "mendloop.cli", "eval", str(checkpoints["a"]), "--task", "scan"]
        options = ["--items", "60", "--template", "IN: {prompt} OUT:", "--backend", backend, "--out", str(out)]
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        said[backend], rows[backend] = done.stdout, pq.read_table(out / "outcomes.parquet").to_pylist()

    assert "s at the model (vllm)" in said["vllm"]
    assert len(rows["vllm"]) == 60
    measured = ("item_id", "output", "score", "stop_reason", "prompt_token_count", "output_token_count")
    for ours, theirs in zip(rows["transformers"], rows["vllm"], strict=True):
        assert [theirs[name] for name in measured] == [ours[name] for name in measured]
        assert theirs["target_logprobs"] == pytest.approx(ours["target_logprobs"], **TOLERANCE)
