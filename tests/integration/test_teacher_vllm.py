"""A real vLLM server on the CPU with random weights as a teacher: garbage over the real protocol, all of it dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import recipe
from generator_world import BIG, Stage, drops, sum_of
from tiny_models import byte_pair_tokenizer, save, tiny_llama

from mendloop.models.vllm_cpu import EnvironmentUnavailable, vllm_python
from mendloop.models.vllm_server import ServerOptions, VllmServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    try:
        python = vllm_python(Path(os.environ.get("MENDLOOP_CACHE") or "~/.cache/mendloop"))
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    root, tokenizer = tmp_path_factory.mktemp("teacher"), byte_pair_tokenizer()
    tokenizer.chat_template = TEMPLATE
    directory = save(root / "model", tiny_llama(len(tokenizer), context=2048, hidden=64), tokenizer)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MENDLOOP_")}
    options = ServerOptions(python=python, log_dir=root, is_on_cpu=True, start_deadline_s=2000)
    own = VllmServer(directory, name="random", options=options, environment={**environment, "OMP_NUM_THREADS": "1"})
    try:
        own.wait_ready()
        yield own
    finally:
        own.stop()


def test_a_random_model_teaches_nothing_and_the_batch_says_why(server: VllmServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(server.client().api_key)
    teacher = {
        "url": f"{server.url}/v1",
        "model": "random",
        "api_key_file": str(key),
        "asked": "alone",
        "max_tokens": 40,
        "fruitless_limit": 6,
    }
    stage = Stage(tmp_path / "artifacts")
    corpus = [sum_of(130, right) for right in range(20)]
    stage.spec_parts = {"corpus": corpus, "recipe": recipe(task="sums", teacher=teacher)}

    ready = stage.answer(stage.plan((BIG, 5)))

    assert ready.example_count == 0
    assert sum(drops(ready, "teacher").values()) == 6
    assert 0 < ready.metering.token_count <= 7 * 40
    [note] = drops(ready, "source")
    assert "cut off after 6 candidates in a row of which none passed" in note


def test_a_teacher_with_a_wrong_key_is_named(server: VllmServer, tmp_path: Path) -> None:
    teacher = {"url": f"{server.url}/v1", "model": "random", "asked": "alone"}
    stage = Stage(tmp_path / "artifacts")
    stage.spec_parts = {"corpus": [sum_of(130, 1)], "recipe": recipe(task="sums", teacher=teacher)}

    [note] = drops(stage.answer(stage.plan((BIG, 5))), "source")

    assert f"the teacher at {server.url}/v1 answered 401" in note
