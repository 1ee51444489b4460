"""Alerts and dashboards use declared metrics alone, lead to a runbook, and are as the sources say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring import require_monitoring
from promql import metric_names

from mendloop.core.metrics import METRICS

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts" / "mendloop" / "files" / "alerts" / "mendloop.yaml"
BOARDS = ROOT / "charts" / "mendloop" / "files" / "dashboards"
CASES = ROOT / "tests" / "deploy" / "alerts"
HEADINGS = ["What it means", "How to check", "How to fix", "How to prevent"]
MEASURES = {"seconds", "share", "bytes", "nats", "norm", "tokens/s", "steps"}
UNIT_SHOWN = {"seconds": "s", "share": "percentunit", "bytes": "bytes"}
DECLARED = {name for row in METRICS for name in row.exposed}


def rules() -> list[dict[str, Any]]:
    """Every rule of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


def board_queries() -> list[str]:
    """Every query of every committed dashboard."""
    found = []
    for path in sorted(BOARDS.glob("*.json")):
        panels = json.loads(path.read_text())["panels"]
        inner = [part for panel in panels for part in (panel, *panel.get("panels", []))]
        found += [target["expr"] for panel in inner for target in panel.get("targets", [])]
    return found


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (a, b) (rate(x_total{c="d e"}[5m])) / on (a) group_left () y > 1e3', {"x_total", "y"}),
        ('label_replace(up == 1, "a", "$1", "b", "(.*)") and on () z:w', {"up", "z:w"}),
        ("histogram_quantile(0.9, sum by (le) (x_bucket))", {"x_bucket"}),
    ],
)
def test_the_tokenizer_finds_series_and_nothing_else(expr: str, names: set[str]) -> None:
    assert metric_names(expr) == names


def test_rules_use_declared_metrics_or_what_they_record() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        assert metric_names(rule["expr"]) <= DECLARED | recorded, rule


def test_dashboards_use_declared_metrics() -> None:
    queries = board_queries()
    assert len(queries) > 50
    for expr in queries:
        assert metric_names(expr) <= DECLARED, expr


def test_a_panel_shows_one_kind_of_number_and_names_its_unit() -> None:
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] == "row":
                continue
            kinds = {kind_of(target["expr"]) for target in panel["targets"]}
            assert len(kinds) == 1, f"{path.name}: {panel['title']} mixes {kinds}"
            shown = panel["fieldConfig"]["defaults"]
            assert shown["unit"] == UNIT_SHOWN.get(kinds.pop(), shown["unit"]), panel["title"]
            assert panel["description"].endswith((".", "?"))
            assert shown["noValue"]


def kind_of(expr: str) -> str:
    """What a query counts: by the metrics' own units, a ratio of two equal ones a share."""
    units = [row.unit for name in metric_names(expr) for row in METRICS if name in row.exposed]
    unit = next(iter(set(units) & MEASURES), "count")
    if " / " in expr and set(units) <= {units[0]}:
        unit = "share"
    return f"{unit} a second" if "rate(" in expr and unit == "count" else unit


def test_no_two_panels_of_a_dashboard_have_one_title() -> None:
    for path in sorted(BOARDS.glob("*.json")):
        titles = [panel["title"] for panel in json.loads(path.read_text())["panels"]]
        assert len(set(titles)) == len(titles), path.name


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    used = {name for expr in (*board_queries(), *(rule["expr"] for rule in rules())) for name in metric_names(expr)}
    assert [row.name for row in METRICS if not used & set(row.exposed)] == []


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"]
    page = ROOT / notes["runbook_url"]
    assert page.parent.name == "runbooks"
    text = page.read_text()
    assert rule["alert"] in text.splitlines()[0]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS


def test_every_runbook_belongs_to_an_alert_and_names_declared_metrics() -> None:
    wanted = {Path(rule["annotations"]["runbook_url"]).name for rule in alerts()}
    pages = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    assert {page.name for page in pages} == wanted
    for page in pages:
        for name in re.findall(r"mendloop_[a-z0-9_]+", page.read_text()):
            assert name in DECLARED | {row.name for row in METRICS}, f"{page.name} names {name}"


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    checks = [
        check
        for path in CASES.glob("*.yaml")
        for case in yaml.safe_load(path.read_text())["tests"]
        for check in case["promql_expr_test"]
    ]
    for rule in alerts():
        own = [check for check in checks if f'alertname="{rule["alert"]}"' in check["expr"]]
        assert any(check["exp_samples"] for check in own), rule["alert"]
        assert any(not check["exp_samples"] for check in own) or rule["labels"]["severity"] == "warning", rule["alert"]


def test_promtool_accepts_the_rules_and_every_case() -> None:
    require_monitoring()
    for command in (["check", "rules", str(RULES)], ["test", "rules", *map(str, sorted(CASES.glob("*.yaml")))]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_dashboards_are_what_the_generator_makes(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="needs grafana-foundation-sdk: uv pip install it")
    code = f"import generate, pathlib; generate.OUT = pathlib.Path({str(tmp_path)!r}); generate.main()"
    subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT / "deploy" / "grafana", check=True, timeout=100)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert made == {path.name: path.read_text() for path in BOARDS.glob("*.json")}


def test_the_configuration_for_one_machine_is_valid_and_follows_the_port_files(tmp_path: Path) -> None:
    require_monitoring()
    config = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        ["promtool", "check", "config", str(config)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
    ports = tmp_path / "ports"
    ports.mkdir()
    (ports / "trainer-0").write_text("4711")
    (ports / "evaluator-0").write_text("")  # started, and not listening yet
    (ports / "gateway-0-grpc").write_text("4712")  # no page of metrics there
    code = f"import targets, pathlib; print(targets.targets(pathlib.Path({str(tmp_path)!r})))"
    shown = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=config.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(shown.stdout) == [{"targets": ["127.0.0.1:4711"], "labels": {"replica": "trainer-0"}}]
