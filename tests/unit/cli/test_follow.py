"""`mend subscribe`: what it prints, and that a resume file loses and repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_events import data_run

from mendloop.bus.local import LocalBus
from mendloop.cli import follow
from mendloop.cli.follow import print_events
from mendloop.core.contracts import all_topics
from mendloop.core.errors import Permanent
from mendloop.runs import stream
from mendloop.runs.filters import EventFilter

WEAK = EventFilter.of(types=["EvalFailed"], slices=["verb=jump"])


@pytest.fixture
def bus(tmp_path: Path) -> LocalBus:
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    return bus


def _printed(
    bus: LocalBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **options: object
) -> list[str]:
    """What is printed until the reader has caught up and is interrupted."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    def follow_once(*arguments: object, **named: object) -> object:
        return stream.follow(*arguments, sleep=interrupt, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(follow, "follow", follow_once)
    with pytest.raises(KeyboardInterrupt):
        print_events(bus, wanted=WEAK, **{"from_start": True, "as_json": False, **options})  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


def test_failure_is_a_line_with_accuracy_interval_and_n(
    bus: LocalBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.publish(data_run("r1"))
    lines = _printed(bus, monkeypatch, capsys)
    assert lines[0] == "2026-01-02T03:04:10 r1 EvalFailed verb=jump: 0/20 right [0.000, 0.168], weak below 0.8"


def test_resumed_reader_goes_on_behind_what_it_printed(
    bus: LocalBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bus.publish(data_run("r1"))
    place = tmp_path / "place"
    first = _printed(bus, monkeypatch, capsys, resume=place, as_json=True)
    bus.publish(data_run("r2"))
    second = _printed(bus, monkeypatch, capsys, resume=place, as_json=True)
    ids = [json.loads(line)["headers"]["ce_id"] for line in first + second]
    assert ids == ["r1/5", "r1/6", "r2/5", "r2/6"]
    assert json.loads(second[-1])["cursor"] == place.read_text()


def test_file_that_holds_no_place_is_refused(bus: LocalBus, tmp_path: Path) -> None:
    (tmp_path / "place").write_text("notes")
    with pytest.raises(Permanent, match="delete it"):
        print_events(bus, wanted=WEAK, from_start=True, as_json=True, resume=tmp_path / "place")
