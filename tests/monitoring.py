"""A real Prometheus and Alertmanager of this machine, in a folder, on free ports, over the services' port files."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from system_packages import has_programs
from waiting import wait_until

PROGRAMS = ("promtool", "prometheus-alertmanager")
PACKAGES = ("prometheus", "prometheus-alertmanager")
SCRAPE_S = 1.0


def require_monitoring() -> None:
    """Skip where the binaries are missing and cannot be installed."""
    if not has_programs(PROGRAMS, packages=PACKAGES):
        pytest.skip(f"needs Debian's packages {' and '.join(PACKAGES)}: apt-get install them")


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Addresses of a running Prometheus and, where one was asked for, of its Alertmanager."""

    prometheus: str
    alertmanager: str = ""

    def query(self, promql: str, *, start: float, end: float, step_s: float = 2.0) -> list[Any]:
        """The series of a range query, with the points that have a number. Fails with Prometheus' words."""
        given = {"query": promql, "start": f"{start}", "end": f"{end}", "step": f"{step_s}"}
        answer = _get(f"{self.prometheus}/api/v1/query_range?{urllib.parse.urlencode(given)}")
        assert answer["status"] == "success", f"{promql}: {answer.get('error')}"
        kept = [{**row, "values": [v for v in row["values"] if v[1] != "NaN"]} for row in answer["data"]["result"]]
        return [row for row in kept if row["values"]]

    def value(self, promql: str) -> float | None:
        """The largest value of an instant query; None without one."""
        answer = _get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
        found = [float(row["value"][1]) for row in answer["data"]["result"]]
        return max(found, default=None)

    def firing(self) -> list[dict[str, Any]]:
        """Alerts that Alertmanager holds as active."""
        return list(_get(f"{self.alertmanager}/api/v2/alerts?active=true"))


@contextmanager
def monitoring(
    folder: Path, *, port_files: Callable[[], Iterable[Path]], rules: Path | None = None, scrape_s: float = SCRAPE_S
) -> Iterator[Monitoring]:
    """Prometheus over every port file, whenever one appears or changes; with rules also Alertmanager."""
    require_monitoring()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        alertmanager = stack.enter_context(_alertmanager(folder)) if rules else ""
        port = free_port()
        config = _config(folder, scrape_s=scrape_s, rules=rules, alertmanager=alertmanager)
        stack.enter_context(_following(folder / "targets.json", port_files))
        stack.enter_context(
            _process(
                [
                    "prometheus",
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                log=folder / "prometheus.log",
                ready=f"http://127.0.0.1:{port}/-/ready",
            )
        )
        yield Monitoring(f"http://127.0.0.1:{port}", alertmanager)


def _config(folder: Path, *, scrape_s: float, rules: Path | None, alertmanager: str) -> Path:
    document: dict[str, Any] = {
        "global": {"scrape_interval": f"{int(scrape_s * 1000)}ms", "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "mendloop",
                "file_sd_configs": [{"files": [str(folder / "targets.json")], "refresh_interval": "1s"}],
            }
        ],
    }
    if rules is not None:
        place = alertmanager.removeprefix("http://")
        document["rule_files"] = [str(rules)]
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [place]}]}]}
    path = folder / "prometheus.json"  # JSON is YAML
    path.write_text(json.dumps(document))
    return path


@contextmanager
def _alertmanager(folder: Path) -> Iterator[str]:
    port = free_port()
    config = folder / "alertmanager.json"
    route = {"receiver": "none", "group_wait": "1s", "group_interval": "1s"}
    config.write_text(json.dumps({"route": route, "receivers": [{"name": "none"}]}))
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with _process(command, log=folder / "alertmanager.log", ready=f"http://127.0.0.1:{port}/-/ready"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(command: list[str], *, log: Path, ready: str) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:

        def is_ready() -> bool:
            assert process.poll() is None, f"{command[0]} ended:\n{log.read_text()[-2000:]}"
            return _answers(ready)

        wait_until(is_ready, deadline_s=120, every_s=0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _following(targets: Path, port_files: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """Keep the list of targets as the port files say."""
    stop = threading.Event()
    targets.write_text("[]")

    def follow() -> None:
        while not stop.wait(0.2):
            rows = []
            for path in sorted(port_files()):
                try:
                    port = int(path.read_text())
                except (OSError, ValueError):
                    continue  # not written yet
                rows.append({"targets": [f"127.0.0.1:{port}"], "labels": {"replica": path.name}})
            text = json.dumps(rows)
            if text != targets.read_text():
                partial = targets.with_suffix(".partial")
                partial.write_text(text)
                os.replace(partial, targets)

    thread = threading.Thread(target=follow, name="targets", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())
