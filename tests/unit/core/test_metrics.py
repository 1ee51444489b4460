"""The metric table and what keeps it small: bounds of labels, owners, series that go away."""

from __future__ import annotations

from pathlib import Path

from mendloop.core.contracts import EVALUATOR, GATEWAY, SERVICES, TRAINER
from mendloop.core.metric import OTHER
from mendloop.core.metrics import METRICS, MOST_SLICES
from mendloop.core.metrics_page import document
from mendloop.core.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[3]
MOST_SERIES_A_PROCESS = 2_500


def series(telemetry: Telemetry, name: str) -> list[str]:
    """Lines of a metric on the page."""
    lines = telemetry.page("")[0].decode().splitlines()
    return [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]


def test_the_page_of_metrics_is_made_from_the_table() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == document()


def test_names_are_unique_carry_their_unit_and_end_as_prometheus_wants() -> None:
    names = [row.name for row in METRICS]
    assert len(set(names)) == len(names)
    for row in METRICS:
        assert row.name.startswith("mendloop_")
        assert not row.name.endswith("_total"), "the client adds it to counters"
        if row.unit in {"seconds", "bytes"}:
            assert row.unit in row.name, row.name
        assert (row.kind == "histogram") == bool(row.buckets), row.name


def test_no_process_can_show_more_series_than_a_scraper_should_keep() -> None:
    for service in SERVICES:
        used_types = 20 if service == GATEWAY else 10  # a worker handles at most ten types: the controller
        total = 0
        for row in (row for row in METRICS if service in row.services):
            share = used_types / 21 if any(label.name == "type" for label in row.labels) else 1
            total += row.most_series * share
        assert total < MOST_SERIES_A_PROCESS, (service, total)


def test_a_label_that_grows_without_end_is_folded_and_counted() -> None:
    telemetry = Telemetry(TRAINER)
    for number in range(1_000):
        telemetry.add("mendloop_trainings_failed", cause=f"cause {number}")
    shown = series(telemetry, "mendloop_trainings_failed_total")
    assert len(shown) == 9
    assert any(OTHER in line for line in shown)
    assert series(telemetry, "mendloop_labels_folded_total") == [
        'mendloop_labels_folded_total{metric="mendloop_trainings_failed",service="trainer"} 992.0'
    ]


def test_a_value_outside_of_a_closed_label_becomes_other() -> None:
    telemetry = Telemetry(GATEWAY)
    telemetry.add("mendloop_decisions", decision="postponed")
    assert any('decision="other"' in line for line in series(telemetry, "mendloop_decisions_total"))


def test_series_that_are_not_shown_again_are_removed_and_make_room() -> None:
    telemetry = Telemetry(GATEWAY)
    for number in range(50):
        telemetry.set_all("mendloop_slice_accuracy", {(f"run{number}", f"slice{i}"): 0.5 for i in range(MOST_SLICES)})
    shown = series(telemetry, "mendloop_slice_accuracy")
    assert len(shown) == MOST_SLICES
    assert all('run="run49"' in line for line in shown)


def test_a_service_shows_its_own_metrics_alone() -> None:
    page = Telemetry(EVALUATOR).page("")[0].decode()
    assert "mendloop_items_scored_total" in page
    assert "mendloop_verdicts" not in page
    assert "mendloop_queue_lag" not in page


def test_counters_of_closed_labels_stand_at_zero_before_anything_happens() -> None:
    telemetry = Telemetry(GATEWAY)
    assert len(series(telemetry, "mendloop_decisions_total")) == 3
    telemetry.expect(["mendloop.v1.LoopRequested"])
    assert len(series(telemetry, "mendloop_events_handled_total")) == 4


def test_a_histogram_carries_the_trace_as_exemplar_where_the_scraper_reads_openmetrics() -> None:
    telemetry = Telemetry(TRAINER)
    telemetry.handled("mendloop.v1.LoopRequested", result="ok", seconds=0.01, latency_s=0.02, trace_id="ab" * 16)
    page, content_type = telemetry.page("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    exemplars = [line for line in page.decode().splitlines() if f'# {{trace_id="{"ab" * 16}"}}' in line]
    assert len(exemplars) == 2
    assert "ab" * 16 not in telemetry.page("text/plain")[0].decode()
