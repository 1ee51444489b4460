"""A run becomes figures and a page; nothing that comes from a run can act in the page."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path

import pytest
from run_events import batch, data_run, sent
from training import job

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import ArtifactStore
from mendloop.core.contracts import decode
from mendloop.core.events import Envelope
from mendloop.core.training import GroupCourse, TrainingReport
from mendloop.core.wire import artifact_ref
from mendloop.report.page import render
from mendloop.report.summary import Document, summarize
from mendloop.runs.fold import fold
from mendloop.runs.model import RunView
from mendloop.v1 import checkpoint_pb2, diagnosis_pb2


def _without_report(envelope: Envelope) -> Envelope:
    message = decode(envelope.event_type, envelope.value)
    if isinstance(message, checkpoint_pb2.CheckpointReady):
        message.ClearField("training_report")  # no report lies in this test's store
    return Envelope(envelope.topic, envelope.key, message.SerializeToString(), envelope.headers)


def _summary(tmp_path: Path, events: list[Envelope]) -> Document:
    view: RunView | None = reduce(lambda view, event: fold(view, _without_report(event)), events, None)
    assert view is not None
    return {**summarize(view, store=ArtifactStore(tmp_path)), "weak_below": 0.8}


@pytest.fixture
def summary(tmp_path: Path) -> Document:
    return _summary(tmp_path, data_run())


def test_figures_say_what_was_found_done_and_decided(summary: Document) -> None:
    assert summary["outcome"] == summary["gate_decision"] == "promoted"
    assert {verdict["cause"] for verdict in summary["verdicts"]} == {"DATA_MISSING"}
    assert [plan["kind"] for plan in summary["plans"]] == ["data"]
    assert summary["budget"]["new_examples"]["used"] == 30
    assert any(row["is_target"] for row in summary["slices"])


def test_accuracy_never_travels_without_n_and_interval(summary: Document) -> None:
    for row in summary["slices"]:
        for part in (row["before"], row["after"]):
            assert part is None or (part["n"] > 0 and part["low"] <= part["accuracy"] <= part["high"])


def test_figures_are_json(summary: Document) -> None:
    assert json.loads(json.dumps(summary)) == summary


def test_unfinished_run_has_a_page(tmp_path: Path) -> None:
    page = render([_summary(tmp_path, data_run()[:3])], title="t", subtitle="s")
    assert "The run has not finished." in page


def test_page_draws_slices_gates_and_stages(summary: Document) -> None:
    page = render([summary], title="t", subtitle="s")
    drawn = re.findall(r"<title>(.*?)</title>|<dc:title>(.*?)</dc:title>", page)
    assert {"Accuracy per slice before and after", "Gates", "Stages"} <= {name for pair in drawn for name in pair}


def test_what_a_batch_drops_and_shifts_stands_on_the_page(tmp_path: Path) -> None:
    counts = {"distinct": 7, "most_frequent_share": 0.25}
    values = {"jump": {"before": 0.01, "after": 0.31, "batch": 30}, "walk": {"before": 0.99, "after": 0.69, "batch": 0}}
    audit = {"axes": {"verb": {"values": {**values, "run": {"before": 0.1, "after": 0.1, "batch": 0}}}}}
    facts = {"audit": {**audit, "answers": {"after": counts}}, "corpus": {"rows_removed": 4, "sha256": "x"}}
    name = f"batch:{batch().batch.sha256}"
    record(ArtifactStore(tmp_path), Node(name, "r1", (), facts))

    summary = _summary(tmp_path, data_run())

    [plan] = summary["plans"]
    assert [(row["value"], row["batch"]) for row in plan["batch"]["shifts"]] == [("jump", 30), ("walk", 0)]
    page = render([summary], title="t", subtitle="s")
    assert re.search(r"an evaluation item</td>\s*<td class=\"number\">2<", page)
    assert "rows removed 4" in page
    assert re.search(r"<td>jump</td>.*0.010.*0.310", page)


def test_the_groups_that_a_training_weighed_stand_on_the_page(tmp_path: Path) -> None:
    groups = (GroupCourse("jump", 40, 0.8125, 0.25, 0.125), GroupCourse("walk", 60, 0.1875, 0.5, 0.0625))
    curve = ((10, 1.0), (20, 0.5))
    report = TrainingReport(job(group_dro={"axis": "verb"}), (), curve, 20, 900, 1.0, 1e6, "", groups=groups)
    stored = artifact_ref(report.store(ArtifactStore(tmp_path)))
    events = [_without_report(event) for event in data_run()]
    for at, envelope in enumerate(events):
        message = decode(envelope.event_type, envelope.value)
        if isinstance(message, checkpoint_pb2.CheckpointReady):
            message.training_report.CopyFrom(stored)
            events[at] = Envelope(envelope.topic, envelope.key, message.SerializeToString(), envelope.headers)
    view: RunView | None = reduce(fold, events, None)
    assert view is not None

    summary = {**summarize(view, store=ArtifactStore(tmp_path)), "weak_below": 0.8}

    page = render([summary], title="t", subtitle="s")
    assert "<td>jump</td><td>40</td><td>0.812</td><td>0.250</td><td>0.125</td>" in page


def test_text_of_a_run_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    events = data_run()
    for index, envelope in enumerate(events):
        message = decode(envelope.event_type, envelope.value)
        if isinstance(message, diagnosis_pb2.DiagnosisReady):
            message.summary = evil
            message.evidence[0].reading = evil
            events[index] = sent(message, second=20 + index)
    page = render([_summary(tmp_path, events)], title=evil, subtitle=evil)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_same_run_gives_the_same_page(summary: Document) -> None:
    assert render([summary], title="t", subtitle="s") == render([summary], title="t", subtitle="s")
