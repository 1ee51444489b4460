"""Runs every service as its own operating-system process on this machine, and starts again what dies.

Kubernetes does this in a cluster; this is for a laptop, the demo and the tests. Knows processes; knows no event.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mendloop.cli.deployment import Deployment
from mendloop.core.contracts import SERVICES
from mendloop.core.errors import Permanent

STOP_GRACE_S = 20.0
CRASH_WINDOW_S = 60.0
MAX_CRASHES = 6
LOG_TAIL_LINES = 12


@dataclass(slots=True)
class Replica:
    """One process of a service, and how often it died lately."""

    name: str
    service: str
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    restart_count: int = 0
    crashes: tuple[float, ...] = ()


class Supervisor:
    """The processes of one deployment. Call tend() regularly; use as a context manager."""

    def __init__(self, deployment: Deployment, *, replicas: Mapping[str, int] | None = None) -> None:
        self._deployment = deployment
        counts = dict.fromkeys(SERVICES, 1) | dict(replicas or {})
        self._replicas = [
            Replica(f"{service}-{index}", service) for service, count in counts.items() for index in range(count)
        ]

    def start(self) -> None:
        """Start all processes. Raises Permanent where processes of this home still run."""
        alive = self._left_over()
        if alive:
            pids = ", ".join(map(str, alive))
            raise Permanent(f"services of {self._deployment.home} already run (process {pids}): stop them first")
        for replica in self._replicas:
            self._spawn(replica)

    def tend(self) -> None:
        """Start what died. Raises Permanent, with the end of its log, where a service dies again and again."""
        now = time.monotonic()
        for replica in self._replicas:
            if replica.process is not None and replica.process.poll() is not None:
                self._bury(replica, now=now)
            if replica.process is None and now >= replica.start_at:
                self._spawn(replica)

    def pending(self) -> list[str]:
        """Names of the replicas that are not ready."""
        return [replica.name for replica in self._replicas if not self._is_ready(replica)]

    def wait_ready(self, *, timeout_s: float) -> Iterator[list[str]]:
        """Tend until all are ready, yielding what is still pending. Raises Permanent after the timeout."""
        deadline = time.monotonic() + timeout_s
        while pending := self.pending():
            if time.monotonic() > deadline:
                raise Permanent(f"not ready after {timeout_s:.0f} s: {', '.join(pending)}; see {self._logs(pending)}")
            yield pending
            self.tend()
            time.sleep(0.2)

    def pids(self) -> dict[str, int]:
        """Process id of each running replica."""
        return {r.name: r.process.pid for r in self._replicas if r.process is not None and r.process.poll() is None}

    def restart_counts(self) -> dict[str, int]:
        """How often each replica was started again."""
        return {replica.name: replica.restart_count for replica in self._replicas}

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to what does not end in time."""
        running = [replica.process for replica in self._replicas if replica.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._pid_file().unlink(missing_ok=True)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, replica: Replica) -> None:
        log_path, port_file = self._deployment.log_file(replica.name), self._deployment.port_file(replica.name)
        for path in (log_path, port_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        port_file.unlink(missing_ok=True)
        with log_path.open("ab") as log:
            replica.process = subprocess.Popen(
                [sys.executable, "-m", f"mendloop.{replica.service.replace('-', '_')}"],
                env=self._deployment.environment(replica.service, name=replica.name),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            )
        self._pid_file().write_text(json.dumps(self.pids()))

    def _bury(self, replica: Replica, *, now: float) -> None:
        replica.process = None
        replica.crashes = (*(at for at in replica.crashes if now - at < CRASH_WINDOW_S), now)
        replica.restart_count += 1
        if len(replica.crashes) >= MAX_CRASHES:
            raise Permanent(
                f"{replica.name} died {len(replica.crashes)} times in {CRASH_WINDOW_S:.0f} s; its log ends:\n"
                + _tail(self._deployment.log_file(replica.name))
            )
        replica.start_at = now + min(5.0, 0.2 * 2 ** len(replica.crashes))

    def _is_ready(self, replica: Replica) -> bool:
        port_file = self._deployment.port_file(replica.name)
        try:
            port = int(port_file.read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def _left_over(self) -> list[int]:
        try:
            known = json.loads(self._pid_file().read_text())
        except (OSError, ValueError):
            return []
        return [pid for pid in known.values() if _is_ours(pid)]

    def _pid_file(self) -> Path:
        return self._deployment.home / "pids.json"

    def _logs(self, names: Sequence[str]) -> str:
        return ", ".join(str(self._deployment.log_file(name)) for name in names)


def _is_ours(pid: int) -> bool:
    """Whether the process lives and is a service: a number may belong to somebody else by now."""
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return b"mendloop." in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    except OSError:
        return "(no log)"
