"""A server as a process of ours: its last words, its deadline, and that nothing of it outlives us."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import WORDS, save, tiny_llama, word_tokenizer
from waiting import wait_until

from mendloop.core.errors import Permanent
from mendloop.models.vllm_server import ServerOptions, VllmServer


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _server(root: Path, script: str, *, deadline_s: float = 30.0) -> VllmServer:
    checkpoint = save(root / "model", tiny_llama(len(WORDS)), word_tokenizer())
    options = ServerOptions(
        python=_script(root / "vllm", script), log_dir=root / "log", is_on_cpu=True, start_deadline_s=deadline_s
    )
    return VllmServer(checkpoint, name="ours", options=options, environment=dict(os.environ))


def _is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_server_that_ends_while_starting_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    server = _server(tmp_path, "echo unrecognized arguments: $1 >&2; exit 3")

    with pytest.raises(Permanent, match=r"ended while starting; its log .* ends:\nunrecognized arguments"):
        server.wait_ready()


def test_a_server_that_does_not_get_ready_is_ended(tmp_path: Path) -> None:
    server = _server(tmp_path, "echo loading; sleep 600", deadline_s=0.5)

    with pytest.raises(Permanent, match="not ready within"):
        server.wait_ready()

    assert not server.is_alive


def test_an_engine_goes_with_its_server(tmp_path: Path) -> None:
    server = _server(tmp_path, f"sleep 600 & echo $! > {tmp_path}/engine; wait")
    engine = int(wait_until(lambda: (tmp_path / "engine").exists() and (tmp_path / "engine").read_text()))

    server.stop()

    wait_until(lambda: not _is_running(engine))


def test_a_server_does_not_outlive_the_process_that_started_it(tmp_path: Path) -> None:
    script = _script(tmp_path / "vllm", f"sleep 600 & echo $! > {tmp_path}/engine; wait")
    guard = [sys.executable, "-m", "mendloop.models.vllm_guard", str(script)]
    starter = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE,"
         " start_new_session=True); time.sleep(600)", *guard]
    )  # fmt: skip
    engine = int(wait_until(lambda: (tmp_path / "engine").exists() and (tmp_path / "engine").read_text()))

    starter.kill()
    starter.wait()

    wait_until(lambda: not _is_running(engine))


def test_the_environment_of_a_server_wins_over_the_callers_where_it_must(tmp_path: Path) -> None:
    server = _server(tmp_path, "env; exit 1")

    with pytest.raises(Permanent):
        server.wait_ready()

    said = server.tail()
    assert "HF_HUB_OFFLINE=1" in said
    assert "VLLM_NO_USAGE_STATS=1" in said
    assert "TORCH_COMPILE_DISABLE=1" in said
