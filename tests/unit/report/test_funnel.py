"""A batch's funnel adds up: what was looked at is what was dropped at each stage plus what is left."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

from run_events import batch, data_run, planned, position, sent

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.events import Envelope
from mendloop.report.funnel import funnel_of
from mendloop.report.page import render
from mendloop.report.summary import Document, summarize
from mendloop.runs.fold import fold
from mendloop.runs.model import RunView
from mendloop.v1 import intervention_pb2, loop_pb2

DROPS = [
    {"stage": "source", "reason": "teacher: ended after 200 candidates", "count": 0},
    {"stage": "verification", "reason": "the verifier does not confirm the answer", "count": 50},
    {"stage": "verification", "reason": "the verifier cannot read it", "count": 10},
    {"stage": "decontamination", "reason": "its prompt is an evaluation item", "count": 20},
]


def summary_of(tmp_path: Path, events: list[Envelope]) -> Document:
    view: RunView | None = reduce(fold, events, None)
    assert view is not None
    return summarize(view, store=ArtifactStore(tmp_path))


def reviewed_run(*, approved: bool = True) -> list[Envelope]:
    made, left, at = batch(), batch(example_count=20), position("r1", 1)
    made.awaits_review = True
    left.reviewed_from.CopyFrom(made.batch)
    left.drops.append(intervention_pb2.DropCount(stage="review", reason="rejected by a person", count=10))
    answer = loop_pb2.ApprovalGiven(
        position=at, plan_id="p1", approved=approved, review=True, approved_by="<b>bo</b>", reason="typos"
    )
    events = [sent(planned(), second=12), sent(made, second=13), sent(answer, second=14)]
    return [data_run()[0], *events, *([sent(left, second=15, event_id="left")] if approved else [])]


def test_what_is_left_after_each_stage_adds_up() -> None:
    figures = funnel_of({"example_count": 20, "drops": DROPS})

    assert (figures["looked_at"], figures["kept"]) == (100, 20)
    assert [(row["stage"], row["dropped"], row["left"]) for row in figures["stages"]] == [
        ("verification", 60, 40),
        ("decontamination", 20, 20),
    ]
    assert figures["stages"][-1]["left_share"] == 0.2
    assert figures["notes"] == ["source: teacher: ended after 200 candidates"]


def test_a_batch_without_candidates_or_drops_has_a_funnel() -> None:
    assert funnel_of({"example_count": 0, "drops": []}) == {"looked_at": 0, "kept": 0, "stages": [], "notes": []}
    assert funnel_of({"example_count": 3, "drops": []})["looked_at"] == 3


def test_page_draws_stages_with_every_reason(tmp_path: Path) -> None:
    page = render([summary_of(tmp_path, [data_run()[0], *data_run()[11:13]])], title="t", subtitle="s")

    assert "30 of 32 candidates were kept" in page
    assert "decontamination" in page
    assert "an evaluation item" in page


def test_page_of_a_run_without_a_batch_draws_none(tmp_path: Path) -> None:
    page = render([summary_of(tmp_path, [data_run()[0], data_run()[11]])], title="t", subtitle="s")

    assert "candidates were kept" not in page


def test_a_review_is_a_stage_of_the_funnel_with_who_and_why(tmp_path: Path) -> None:
    summary: dict[str, Any] = summary_of(tmp_path, reviewed_run())
    page = render([summary], title="t", subtitle="s")

    assert "20 of 32 candidates were kept" in page
    assert "&lt;b&gt;bo&lt;/b&gt; left 20 of them: typos" in page
    assert "rejected by a person" in page
    assert summary["budget"]["new_examples"]["used"] == 20


def test_a_refused_batch_is_told_and_adds_nothing(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, reviewed_run(approved=False))

    assert "refused them: typos" in render([summary], title="t", subtitle="s")
    assert summary["budget"]["new_examples"]["used"] == 0
