"""`mend pause` and its like: one line that says what happens next, or why it cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from run_events import finished, requested, sent

from mendloop.bus.local import LocalBus
from mendloop.cli.app import main
from mendloop.core.contracts import all_topics


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MENDLOOP_BUS", f"local:{tmp_path}/bus.db")
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    bus.publish([requested("r1"), requested("r2"), sent(finished("r2"), second=30)])
    return tmp_path


def _mend(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mend", "--home", str(home), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_pause_and_resume_say_how_to_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _mend(monkeypatch, home, "pause", "r1", "--reason", "night", "--by", "ada") == 0
    assert "mend resume r1" in capsys.readouterr().out
    assert _mend(monkeypatch, home, "resume", "r1") == 0
    assert "goes on" in capsys.readouterr().out


def test_finished_run_cannot_be_cancelled_and_unknown_one_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _mend(monkeypatch, home, "cancel", "r2") == 1
    assert "run r2 is over: promoted" in capsys.readouterr().err
    assert _mend(monkeypatch, home, "rollback", "r9") == 1
    assert "there is no run 'r9'; known are" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["cancel", "approve", "refuse", "pause", "resume", "rollback"])
def test_help_says_what_follows(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _mend(monkeypatch, home, command, "--help") == 0
    assert len(capsys.readouterr().out.split()) > 40
