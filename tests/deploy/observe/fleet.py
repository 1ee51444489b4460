"""Real service processes over one bus file, watched by a real Prometheus and Alertmanager with rules that run faster.

The rules are the shipped ones with every duration 60 times shorter: minutes become seconds, and so do the thresholds
that are times. Nothing else is changed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring import Monitoring, monitoring
from runbook import command, run
from waiting import wait_until

from mendloop.cli.deployment import Deployment, deployment_at
from mendloop.core.contracts import all_topics

RULES = Path(__file__).resolve().parents[3] / "charts" / "mendloop" / "files" / "alerts" / "mendloop.yaml"
SPEED = 60
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TIMES = {"_seconds) > 300": "_seconds) > 5", "}) > 3600": "}) > 60", "> 4 * 3600": "> 4 * 60", ", 4 * 3600": ", 4 * 60"}
DEADLINE_S = 600.0


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

    def start(self, *services: str, index: int = 0, environment: Mapping[str, str] | None = None) -> None:
        """Start a replica of each service as `mend up` does and wait until all are scraped."""
        names = [f"{service}-{index}" for service in services]
        for service, name in zip(services, names, strict=True):
            self.processes[name] = self._spawn(service, name, environment or {})
        scraped = f'count(mendloop_bus_up{{replica=~"{"|".join(names)}"}} == 1)'
        self.wait_value(scraped, len(names))

    def _spawn(self, service: str, name: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log, port = self.deployment.log_file(name), self.deployment.port_file(name)
        for path in (log, port):
            path.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", f"mendloop.{service.replace('-', '_')}"],
                env={**self.deployment.environment(service, name=name), **environment},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def end(self, service: str, *, index: int = 0) -> None:
        """End a process in order; its page goes with it."""
        process = self.processes.pop(f"{service}-{index}")
        process.terminate()
        process.wait(timeout=60)
        self.deployment.port_file(f"{service}-{index}").unlink()

    def buried(self, service: str) -> None:
        """Wait until the first replica, which somebody killed, is gone; its page goes with it."""
        self.processes.pop(f"{service}-0").wait(timeout=60)
        self.deployment.port_file(f"{service}-0").unlink()

    def pid(self, service: str) -> int:
        """The process of the first replica."""
        return self.processes[f"{service}-0"].pid

    def hold(self, service: str) -> None:
        """Freeze the first replica."""
        self.processes[f"{service}-0"].send_signal(signal.SIGSTOP)

    def go_on(self, service: str) -> None:
        """Let it work again."""
        self.processes[f"{service}-0"].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End what was started."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()

    def run(self, page: str, text: str, *, fails: bool = False, **given: str) -> str:
        """What a command prints that stands in a page of docs/, run beside this deployment's home with its settings."""
        settings = {"MENDLOOP_BUS": self.deployment.bus_url}
        return run(command(page, text, **given), folder=self.deployment.home.parent, settings=settings, fails=fails)

    def wait_firing(self, name: str, **labels: str) -> dict[str, Any]:
        """The alert, once Alertmanager has it."""
        return wait_until(lambda: self._alert(name, labels), deadline_s=DEADLINE_S, every_s=0.5)

    def wait_resolved(self, name: str, **labels: str) -> None:
        """Wait until Alertmanager has it no longer."""
        wait_until(lambda: self._alert(name, labels) is None, deadline_s=DEADLINE_S, every_s=0.5)

    def wait_value(self, promql: str, value: float) -> None:
        """Wait until a query gives the value."""
        wait_until(lambda: self.watched.value(promql) == value, deadline_s=DEADLINE_S, every_s=0.5)

    def is_firing(self, name: str, **labels: str) -> bool:
        """Whether Alertmanager has it now."""
        return self._alert(name, labels) is not None

    def _alert(self, name: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
        wanted = {"alertname": name, **labels}
        return next((a for a in self.watched.firing() if wanted.items() <= a["labels"].items()), None)


@contextmanager
def watched_fleet(folder: Path, *, bus_url: str = "local") -> Iterator[Fleet]:
    """A fleet without processes at `.mendloop` of the folder, with Prometheus and Alertmanager beside it."""
    deployment = deployment_at(folder / ".mendloop", bus_url=bus_url)
    deployment.home.mkdir()
    deployment.bus().ensure_topics(all_topics())
    rules = folder / "rules.yaml"
    rules.write_text(faster(RULES.read_text()))
    ports = deployment.home / "ports"
    with monitoring(folder / "monitoring", port_files=lambda: ports.glob("*-[0-9]"), rules=rules) as watched:
        fleet = Fleet(deployment, watched)
        try:
            yield fleet
        finally:
            fleet.stop()
