"""Servers that tests of the deployment start: each with a log, gone when the test or its process is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
START_DEADLINE_S = 300.0


def start(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server that writes to the log."""
    guarded = [sys.executable, "-m", "mendloop.bus.broker.guard", *command]  # ends with us, also on kill -9
    with log.open("wb") as output:
        return subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it at once; its data goes with the test."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def await_up(look: Callable[[], T], *, log: Path) -> T:
    """A server's first true answer; RuntimeError counts as no. Raises TimeoutError with the end of its log."""
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        with contextlib.suppress(RuntimeError):
            if answer := look():
                return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{log.stem} did not come up in {START_DEADLINE_S:.0f} s: {log.read_text()[-1500:]}")
        time.sleep(0.2)
