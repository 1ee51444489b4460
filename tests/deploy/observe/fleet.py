"""Real service processes over one bus file, watched by a real Prometheus and Alertmanager with rules that run faster.

The rules are the shipped ones with every duration 60 times shorter: minutes become seconds, and so do the thresholds
that are times. Nothing else is changed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring import Monitoring
from waiting import wait_until

from mendloop.cli.deployment import Deployment

SPEED = 60
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TIMES = {"_seconds) > 300": "_seconds) > 5", "}) > 3600": "}) > 60", "> 4 * 3600": "> 4 * 60", ", 4 * 3600": ", 4 * 60"}
DEADLINE_S = 180.0


def faster(rules: str) -> str:
    """The rules with every duration SPEED times shorter."""
    for slow, fast in TIMES.items():
        assert slow in rules, f"no threshold {slow!r} in the rules"
        rules = rules.replace(slow, fast)

    def scaled(found: re.Match[str]) -> str:
        seconds = int(found["count"]) * UNIT_S[found["unit"]]
        return f"{found['before']}{max(1, seconds // SPEED)}s{found['after']}"

    return re.sub(r"(?P<before>\[|for: )(?P<count>\d+)(?P<unit>[smhd])(?P<after>\]|\n)", scaled, rules)


@dataclass(slots=True)
class Fleet:
    """The processes, and what Alertmanager says."""

    deployment: Deployment
    watched: Monitoring
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, service: str, *, environment: Mapping[str, str] | None = None) -> None:
        """Start a service as `mend up` does and wait until it is scraped."""
        name = f"{service}-0"
        log, port = self.deployment.log_file(name), self.deployment.port_file(name)
        for path in (log, port):
            path.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self.processes[service] = subprocess.Popen(
                [sys.executable, "-m", f"mendloop.{service.replace('-', '_')}"],
                env={**self.deployment.environment(service, name=name), **(environment or {})},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        wait_until(
            lambda: self.watched.value(f'mendloop_bus_up{{service="{service}"}}'), deadline_s=DEADLINE_S, every_s=0.5
        )

    def end(self, service: str) -> None:
        """End a process in order; its page goes with it."""
        process = self.processes.pop(service)
        process.terminate()
        process.wait(timeout=60)
        self.deployment.port_file(f"{service}-0").unlink()

    def hold(self, service: str) -> None:
        """Freeze a process."""
        self.processes[service].send_signal(signal.SIGSTOP)

    def go_on(self, service: str) -> None:
        """Let a frozen process work again."""
        self.processes[service].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End what was started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()

    def mend(self, *words: str) -> str:
        """What `mend` prints in this deployment's home."""
        command = [sys.executable, "-m", "mendloop.cli", "--home", str(self.deployment.home), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_firing(self, name: str, **labels: str) -> dict[str, Any]:
        """The alert, once Alertmanager has it."""
        return wait_until(lambda: self._alert(name, labels), deadline_s=DEADLINE_S, every_s=0.5)

    def wait_resolved(self, name: str, **labels: str) -> None:
        """Wait until Alertmanager has it no longer."""
        wait_until(lambda: self._alert(name, labels) is None, deadline_s=DEADLINE_S, every_s=0.5)

    def is_firing(self, name: str, **labels: str) -> bool:
        """Whether Alertmanager has it now."""
        return self._alert(name, labels) is not None

    def _alert(self, name: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
        wanted = {"alertname": name, **labels}
        return next((a for a in self.watched.firing() if wanted.items() <= a["labels"].items()), None)


def write_rules(source: Path, path: Path) -> Path:
    """The faster copy of a rules file."""
    path.write_text(faster(source.read_text()))
    return path
