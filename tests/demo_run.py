"""Runs `mend demo` as a user would, in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring import Monitoring

DEMO_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Scraped:
    """A Prometheus that scraped every service of a demo, and from when to when (Unix time)."""

    monitoring: Monitoring
    started_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Demo:
    """What one demo printed and left behind."""

    out: Path
    printed: str
    scenarios: dict[str, Any]
    scraped: Scraped | None = None
    """What a real Prometheus saw of it; None where this machine has none."""

    def decision(self, run_id: str) -> tuple[str, str, list[tuple[str, str]]]:
        """How the run ended: outcome, gate decision, verdicts."""
        run = self.scenarios[run_id]
        return run["outcome"], run["gate_decision"], sorted((v["slice"], v["cause"]) for v in run["verdicts"])


def run_demo(out: Path, *, bus: str) -> Demo:
    """Run the command. Fails with its output where it does not end well."""
    command = [sys.executable, "-m", "mendloop.cli", "demo", "--bus", bus, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S)
    assert done.returncode == 0, (
        f"mend demo ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return Demo(out, done.stdout, json.loads((out / "demo.json").read_text())["scenarios"])
