"""A weak slice is followed over the checkpoints: in the figures, on the page, on the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import pytest
from builders import outcome
from rich.console import Console
from run_events import JUMP, failed, position, ref, sent

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.cli.live import facts, run_table
from mendloop.core.records import Outcome
from mendloop.core.wire import artifact_ref, conditions_of, proportion
from mendloop.evaluator.history import SliceHistory
from mendloop.report.page import render
from mendloop.report.summary import summarize
from mendloop.report.trends import trends_of
from mendloop.runs.fold import fold
from mendloop.runs.model import RunView
from mendloop.v1 import checkpoint_pb2, evaluation_pb2


def _outcomes(right: int) -> list[Outcome]:
    """Thirty items that jump, so many of them right, and ten that do not."""
    jumps = [outcome(f"j{at:02}", score=float(at < right), axes={"verb": ("jump",)}) for at in range(30)]
    return [*jumps, *(outcome(f"w{at}", axes={"verb": ("walk",)}) for at in range(10))]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def _view(store: ArtifactStore, rights: Sequence[int], *, weak_in: Sequence[int]) -> RunView:
    """A run whose rounds get so many of thirty right; the slice is reported weak in some of them."""
    version = SliceHistory(store).keep(conditions_of(JUMP), _outcomes(0)).version
    envelopes = []
    for number, right in enumerate(rights):
        artifact = artifact_ref(put_rows(store, _outcomes(right), kind=Outcome))
        place = position("r", number)
        ready = checkpoint_pb2.CheckpointReady(position=place, checkpoint=ref("abcd"[number]))
        done = evaluation_pb2.EvalCompleted(
            position=place,
            evaluation_id=f"e{number}",
            checkpoint_ready=ready,
            outcomes=artifact,
            accuracy=proportion(right + 10, 40),
        )
        envelopes.append(sent(done, second=number))
        if number in weak_in:
            message = failed("r", JUMP)
            message.position.CopyFrom(place)
            message.evaluation_id = f"e{number}"
            message.accuracy.CopyFrom(proportion(right, 20))
            message.confirmation.CopyFrom(proportion(0, 10))
            message.slice_version = version
            message.trend.extend(
                evaluation_pb2.SlicePoint(
                    round=at, evaluation_id=f"e{at}", checkpoint=ref("abcd"[at]), accuracy=proportion(rights[at], 30)
                )
                for at in range(number)
            )
            envelopes.append(sent(message, second=number + 0.5))
    view: RunView | None = reduce(fold, envelopes, None)
    assert view is not None
    return view


def test_a_slice_that_stays_weak_is_followed_from_the_events(store: ArtifactStore) -> None:
    (trend,) = trends_of(_view(store, [3, 6, 9], weak_in=[0, 1, 2]), store=store)

    assert trend["slice"] == "verb=jump"
    assert [(p["round"], p["n"], round(p["accuracy"], 2)) for p in trend["points"]] == [
        (0, 30, 0.1),
        (1, 30, 0.2),
        (2, 30, 0.3),
    ]
    assert all(point["low"] <= point["accuracy"] <= point["high"] for point in trend["points"])


def test_a_slice_that_was_repaired_is_followed_over_its_stored_items(store: ArtifactStore) -> None:
    (trend,) = trends_of(_view(store, [3, 29], weak_in=[0]), store=store)

    assert [(p["round"], p["n"], round(p["accuracy"], 3)) for p in trend["points"]] == [(0, 30, 0.1), (1, 30, 0.967)]


def test_a_slice_that_was_measured_once_has_no_trend(store: ArtifactStore) -> None:
    assert trends_of(_view(store, [3], weak_in=[0]), store=store) == []


def test_the_page_draws_the_trend_and_the_terminal_says_it(store: ArtifactStore) -> None:
    view = _view(store, [3, 6], weak_in=[0, 1])
    terminal = Console(width=200, record=True, file=io.StringIO())

    page = render([summarize(view, store=store)], title="t", subtitle="s")
    terminal.print(run_table([view]))

    assert "Weak slices over the checkpoints" in page
    assert "<dc:title>Slices over checkpoints</dc:title>" in page
    assert "verb=jump (over rounds: 0.100 → 0.200)" in terminal.export_text()
    assert any(line.endswith("(over rounds: 0.100 → 0.200)") for line in facts(view))


def test_a_judge_stands_on_the_page_with_its_error(store: ArtifactStore) -> None:
    view = _view(store, [3, 6], weak_in=[0])
    rate = {"value": 0.9, "n": 40, "low": 0.8, "high": 0.96}
    row = {
        "axis": "principle",
        "value": "no-insults",
        "kind": "judge",
        "sensitivity": rate,
        "specificity": rate,
        "held_back": rate,
        "unanswered_count": 0,
        "self_agreement": rate,
        "swap_agreement": None,
        "first_share": None,
        "flags": ["its preference follows the place"],
        "n": 100,
        "not_judged_count": 0,
        "observed": 0.6,
        "corrected": {"value": 0.625, "low": 0.5, "high": 0.7},
    }
    store.put_doc("judged", "e1", json.dumps([row]).encode())

    page = render([summarize(view, store=store)], title="t", subtitle="s")

    assert "How far the detectors can be believed" in page
    assert "0.625" in page
    assert "its preference follows the place" in page
