"""A vLLM server as a process of ours: started on 127.0.0.1, watched, its words kept, ended with us.

Knows command line and environment of vLLM; knows neither prompts nor scores.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mendloop.core.errors import Permanent
from mendloop.models.vllm_client import TIMEOUT_S, Busy, Gone, VllmClient

START_DEADLINE_S = 900.0
STOP_DEADLINE_S = 20.0
LOG_TAIL = 3000
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""What vLLM 0.32's attention for the CPU computes (its get_supported_head_sizes)."""
_ERROR = re.compile(r"\b\w+Error: .+")

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # collective_rpc and reset_prefix_cache; the address is 127.0.0.1, with a key
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "300",  # the default of 5 s drops connections between two batches
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # for the token after a full context, which is asked for and never read
}
_CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else every server on a machine is bound to the same cores
    "TORCH_COMPILE_DISABLE": "1",  # the first log-probabilities would wait minutes for a C++ compiler
}
"""For a server without GPU, where the caller's environment does not say otherwise."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server is started. python is the interpreter of vLLM's environment."""

    python: Path
    log_dir: Path
    dtype: str = ""
    """Numeric type; empty takes that of the checkpoint, which vLLM by itself does not: it halves float32."""
    arguments: tuple[str, ...] = ()
    """Further arguments, e.g. --tensor-parallel-size 4."""
    is_on_cpu: bool = False
    start_deadline_s: float = START_DEADLINE_S


def command_of(directory: Path, *, options: ServerOptions, port: int, name: str) -> list[str]:
    """The command that serves a checkpoint under a name."""
    config = json.loads((directory / "config.json").read_text())
    dtype = options.dtype or config.get("dtype") or config.get("torch_dtype") or "float32"
    context = config.get("max_position_embeddings")
    return [
        *(str(options.python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(directory), "--served-model-name", name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", str(dtype)),
        *("--generation-config", "vllm"),  # else the checkpoint's sampling settings and length limits count
        *(("--max-model-len", str(context + 1)) if context else ()),
        *(("--enforce-eager",) if options.is_on_cpu else ()),
        "--disable-uvicorn-access-log",
        *options.arguments,
    ]


def why_not_on_cpu(directory: Path) -> str:
    """Why vLLM's attention for the CPU cannot compute a checkpoint; empty where nothing is known against it.

    It finds out at the first request only, which kills its engine.
    """
    config = json.loads((directory / "config.json").read_text())
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    size = config.get("head_dim") or (hidden // heads if heads and hidden else None)
    if size is None or size in CPU_HEAD_SIZES:
        return ""
    return f"its attention heads have size {size}, on a CPU they may have {', '.join(map(str, CPU_HEAD_SIZES))}"


class VllmServer:
    """One process that serves one checkpoint at a time."""

    def __init__(self, directory: Path, *, name: str, options: ServerOptions, environment: dict[str, str]) -> None:
        """environment is what the process gets beside our own settings for vLLM, usually the caller's own.

        name is what the checkpoint is called in requests: nobody else's, so that it tells our server from another's.
        """
        self._options, self.name = options, name
        self._key = secrets.token_hex(16)
        options.log_dir.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.log_path = options.log_dir / f"{name}-{port}.log"
        self.url = f"http://127.0.0.1:{port}"
        with self.log_path.open("ab") as log:
            # the guard ends the server when its standard input closes, which the kernel does even when we are killed
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mendloop.models.vllm_guard"),
                    *command_of(directory, options=options, port=port, name=self.name),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **(_CPU_ENVIRONMENT if options.is_on_cpu else {}),
                    **environment,
                    **_ENVIRONMENT,
                    "VLLM_API_KEY": self._key,
                },
            )

    @property
    def pid(self) -> int:
        """The process group of the server."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; whether it answers is another question."""
        return self._process.poll() is None

    def client(self, *, timeout_s: float = TIMEOUT_S) -> VllmClient:
        """A client of this server."""
        return VllmClient(self.url, api_key=self._key, timeout_s=timeout_s)

    def wait_ready(self, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """Until it serves. Raises Permanent, with its last words, where it ends or takes too long."""
        deadline = time.monotonic() + self._options.start_deadline_s
        client = self.client()
        while time.monotonic() < deadline and not is_stopping():
            if not self.is_alive:
                raise Permanent(f"the vLLM server ended while starting; its log {self.log_path} ends:\n{self.tail()}")
            with contextlib.suppress(Gone, Busy):
                client.get("/health")
                served = [model["id"] for model in client.get("/v1/models")["data"]]
                if self.name not in served:
                    raise Permanent(f"{self.url} is another server's: it serves {', '.join(served)}; start again")
                return
            time.sleep(0.1)
        self.stop()
        raise Permanent(
            f"the vLLM server was not ready within {self._options.start_deadline_s:.0f} s; its log {self.log_path}"
            f" ends:\n{self.tail()}"
        )

    def tail(self) -> str:
        """Its last words."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - LOG_TAIL))
            return log.read().decode(errors="replace")

    def cause(self) -> str:
        """The first line of its log that names an error: what follows is only that the engine is dead."""
        found = _ERROR.search(self.log_path.read_text(errors="replace"))
        return found[0] if found else self.tail()

    def stop(self) -> None:
        """End it, with its engine and workers."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _free_port() -> int:
    # vLLM does not tell the port that it was given for 0; that nobody else got this one, the served name shows
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
