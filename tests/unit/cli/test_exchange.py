"""A batch leaves as a data set and comes back reviewed, by the commands that a person types."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from exchange_world import RUN, put_batch, write_export

from mendloop.artifacts.store import ArtifactStore
from mendloop.cli.app import main

Mend = Callable[..., int]
SAID = {0: [("ada", "accept", "")], 1: [("ada", "reject", "")], 2: [("ada", "accept", "")]}


@pytest.fixture
def mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mend:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mend", "--home", str(tmp_path / "home"), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def batch(tmp_path: Path) -> str:
    return put_batch(ArtifactStore(tmp_path / "home" / "artifacts")).sha256[:12]


def test_export_and_import_say_what_was_written_and_counted(
    mend: Mend, batch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mend("export", RUN, "--to", str(tmp_path / "out"), "--format", "jsonl") == 0
    assert f"batch {batch} of run {RUN}: 3 rows" in capsys.readouterr().out
    files = {"rows.jsonl": (tmp_path / "out" / "rows.jsonl").read_bytes()}
    filled = write_export(tmp_path, "jsonl", files, SAID)

    assert mend("import", str(filled), "--format", "jsonl", "--for", batch) == 0

    said = capsys.readouterr().out
    assert "2 of 3 rows are left, reviewed by ada" in said
    assert "1 rejected by a person" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("export", "nothing", "--to", "out"), "no batch starts with 'nothing'"),
        (("export", RUN, "--to", "out", "--format", "csv"), "--format is 'csv'; choose one of hf, label-studio"),
        (("import", "gone.json", "--format", "jsonl", "--for", RUN), "gone.json cannot be read"),
        (("import", "x", "--format", "hf", "--for", RUN), "choose one of label-studio, argilla, jsonl"),
        (
            ("import", "x", "--format", "jsonl", "--for", RUN, "--unreviewed", "maybe"),
            "--unreviewed is 'maybe'; choose one of refuse, keep, drop",
        ),
    ],
)
def test_mistakes_are_answered_in_one_line(
    mend: Mend, batch: str, arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mend(*arguments) == 1

    [line] = capsys.readouterr().err.splitlines()
    assert complaint in line
