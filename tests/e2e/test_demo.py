"""Both verdicts from one unmodified loop, through real processes, on both buses."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from demo_run import Demo, run_demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def _verdicts(demo: Demo, run_id: str) -> set[tuple[str, str]]:
    return {(verdict["cause"], verdict["family"]) for verdict in demo.scenarios[run_id]["verdicts"]}


def test_missing_data_is_named_fixed_within_the_budget_and_promoted(demo: Demo) -> None:
    run = demo.scenarios["data-in"]
    assert _verdicts(demo, "data-in") == {("DATA_MISSING", "data")}
    assert 0 < run["budget"]["new_examples"]["used"] <= 64
    assert (run["gate_decision"], run["outcome"]) == ("promoted", "promoted")
    for target in (row for row in run["slices"] if row["is_target"]):
        assert target["after"]["low"] > target["before"]["high"], target


def test_masked_eos_is_called_not_the_data_and_no_data_is_made(demo: Demo) -> None:
    run = demo.scenarios["data-out"]
    assert _verdicts(demo, "data-out") == {("EOS_MASKED", "training")}
    assert run["budget"]["new_examples"]["used"] == 0
    assert [plan["kind"] for plan in run["plans"]] == ["training_fix"]
    assert run["plans"][0]["fixes"] == ["train.eos_in_loss=true"]
    assert (run["gate_decision"], run["outcome"]) == ("promoted", "promoted")


def test_each_verdict_carries_measured_evidence(demo: Demo) -> None:
    for run in demo.scenarios.values():
        for verdict in run["verdicts"]:
            measured = [row for row in verdict["evidence"] if row["n"] > 0]
            assert len({row["probe"] for row in measured}) >= 3, verdict
            assert all(row["low"] <= row["value"] <= row["high"] and row["reading"] for row in measured)
            assert 0 < verdict["confidence"] <= 1


def test_every_gate_is_told_with_its_numbers(demo: Demo) -> None:
    for run in demo.scenarios.values():
        names = {gate["gate"] for gate in run["gates"]}
        assert {"target_improves", "protected_non_inferior", "sealed_agrees"} <= names
        assert all(gate["passed"] and gate["requirement"] for gate in run["gates"])


def test_lineage_walks_from_failure_to_gate(demo: Demo) -> None:
    kinds = {node["kind"] for node in demo.scenarios["data-in"]["lineage"]}
    assert {"evaluation", "failure", "diagnosis", "plan", "batch", "checkpoint", "gate"} <= kinds
    assert "batch" not in {node["kind"] for node in demo.scenarios["data-out"]["lineage"]}


class _Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.plots = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.plots += tag == "svg"
        for name, value in attrs:
            if name in {"src", "href", "xlink:href"} and value and not value.startswith("#"):
                self.fetched.append(value)


def test_report_needs_no_network_and_has_its_plots(demo: Demo) -> None:
    page = _Links()
    page.feed((demo.out / "report.html").read_text())
    assert page.fetched == []
    assert page.plots >= 2 * 4  # slices, gates, evidence and stages of both runs


def test_seconds_per_stage_are_told(demo: Demo) -> None:
    stages = demo.scenarios["data-in"]["seconds_per_stage"]
    assert {"evaluation", "diagnosis", "generation", "training", "gates"} <= set(stages)


@pytest.mark.integration
def test_real_broker_gives_the_same_decisions(demo: Demo, tmp_path: Path, kafka_bootstrap: str) -> None:
    on_kafka = run_demo(tmp_path, bus="kafka")
    for run_id in demo.scenarios:
        assert on_kafka.decision(run_id) == demo.decision(run_id)
        assert on_kafka.scenarios[run_id]["checkpoint"] == demo.scenarios[run_id]["checkpoint"]
    assert json.loads((tmp_path / "demo.json").read_text())["bus"] == "kafka"
