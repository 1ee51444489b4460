"""`mend demo`: both SCAN scenarios through the same loop, each service its own process, with a report at the end."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.live import Live

from mendloop.bus.broker import running_broker
from mendloop.cli.deployment import Deployment, deployment_at
from mendloop.cli.live import result_table, runs_panel
from mendloop.cli.supervisor import Supervisor
from mendloop.core.errors import Permanent
from mendloop.core.recipe import parse_recipe
from mendloop.report.page import render
from mendloop.report.summary import Document, summarize
from mendloop.runs.log import RunLog
from mendloop.runs.model import RunView
from mendloop.submission.submit import submit

START_TIMEOUT_S = 600.0
RUN_TIMEOUT_S = 1800.0
DONE_MARK = "finished"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A recipe that ships, and how its run is promised to end. The loop itself never sees this."""

    run_id: str
    recipe: str
    family: str
    makes_data: bool

    def shortfalls(self, summary: Document) -> list[str]:
        """What differs from the promise; empty where it is kept."""
        families = {verdict["family"] for verdict in summary["verdicts"]}
        made = summary["budget"]["new_examples"]["used"]
        found = []
        if families != {self.family}:
            found.append(f"verdicts of the families {sorted(families)}, expected {self.family}")
        if (made > 0) != self.makes_data:
            found.append(f"{made} new examples, expected {'some' if self.makes_data else 'none'}")
        if summary["gate_decision"] != "promoted":
            found.append(f"gate decision {summary['gate_decision']}, expected promoted")
        return found


SCENARIOS = (
    Scenario("data-in", "scan-data.yaml", family="data", makes_data=True),
    Scenario("data-out", "scan-eos.yaml", family="training", makes_data=False),
)


def run_demo(out: Path, *, bus: str, fresh: bool, console: Console) -> list[str]:
    """Run the demo, write report.html and demo.json, and return what was not as promised.

    An interrupted demo goes on where it stood; a finished one starts anew.
    """
    home = out.resolve() / "state"
    if fresh or (home / DONE_MARK).exists():
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    with _bus(bus, home) as bus_url:
        deployment = deployment_at(home, bus_url=bus_url, threads=max(1, (os.cpu_count() or 2) // 2))
        views = run_scenarios(deployment, SCENARIOS, console=console)
        summaries = [summarize(view, store=deployment.store()) for view in views]
    (home / DONE_MARK).touch()
    write_results(out, summaries, bus=bus)
    console.print(result_table(summaries))
    console.print(
        f"report: {out / 'report.html'}   figures: {out / 'demo.json'}   lineage: mend --home {home} lineage HASH"
    )
    return [
        f"{s.run_id}: {fault}"
        for s, summary in zip(SCENARIOS, summaries, strict=True)
        for fault in s.shortfalls(summary)
    ]


def run_scenarios(deployment: Deployment, scenarios: Sequence[Scenario], *, console: Console) -> list[RunView]:
    """Start the services, ask for the runs, draw them until all are finished, stop the services."""
    with Supervisor(deployment) as supervisor, Live(console=console, refresh_per_second=4) as screen:
        for pending in supervisor.wait_ready(timeout_s=START_TIMEOUT_S):
            screen.update(f"starting {len(pending)} of 6 services: {', '.join(pending)}")
        bus, store = deployment.bus(), deployment.store()
        for scenario in scenarios:
            ask(scenario, deployment)
        log = RunLog(bus, store=store)
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while True:
            log.refresh()
            views = [view for s in scenarios if (view := log.view(s.run_id)) is not None]
            screen.update(runs_panel(views, note=_process_note(supervisor)))
            if len(views) == len(scenarios) and all(view.is_finished for view in views):
                return views
            if time.monotonic() > deadline:
                raise Permanent(f"not finished after {RUN_TIMEOUT_S:.0f} s; logs are in {deployment.home / 'logs'}")
            supervisor.tend()
            time.sleep(0.25)


def ask(scenario: Scenario, deployment: Deployment) -> str:
    """Submit a scenario's recipe; the same run id asked for twice is one run."""
    path = files("mendloop.examples.scan").joinpath("recipes", scenario.recipe)
    recipe = parse_recipe(path.read_text(encoding="utf-8"), source=scenario.recipe)
    return submit(
        recipe,
        bus=deployment.bus(),
        store=deployment.store(),
        sealed_store=deployment.sealed_store(),
        base_dir=Path.cwd(),
        run_id=scenario.run_id,
        requested_by="demo",
    )


def write_results(out: Path, summaries: Sequence[Document], *, bus: str) -> None:
    """Write report.html and demo.json."""
    out.mkdir(parents=True, exist_ok=True)
    document = {"bus": bus, "scenarios": {summary["run_id"]: summary for summary in summaries}}
    (out / "demo.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    page = render(
        summaries,
        title="Mendloop: two failures, two verdicts",
        subtitle=f"Both runs went through the same services on the {bus} bus. "
        "Points are measured accuracies or shares, lines their 95 % intervals.",
    )
    (out / "report.html").write_text(page, encoding="utf-8")


def _process_note(supervisor: Supervisor) -> str:
    restarts = {name: count for name, count in supervisor.restart_counts().items() if count}
    again = f"; started again: {restarts}" if restarts else ""
    return f"{len(supervisor.pids())} services at work{again}. Ctrl-C stops them; the same command goes on."


@contextmanager
def _bus(kind: str, home: Path) -> Iterator[str]:
    if kind == "local":
        yield "local"
    elif kind == "kafka":
        with running_broker(data_dir=home / "kafka") as bootstrap:
            yield f"kafka:{bootstrap}"
    else:
        raise Permanent(f"bus is {kind!r}; it must be local or kafka")
