"""The command line answers mistakes in one line that says what, which value and what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mendloop.cli.app import main
from mendloop.core.recipe import Recipe


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mend", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: tiny\ntask: scan\nbase: {model: no-such-model}\nsuite: {axes: [verb]}\n")
    return path


def test_help_names_the_first_steps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--help") == 0
    assert "mend demo" in capsys.readouterr().out


def test_schema_is_that_of_the_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "recipe", "schema") == 0
    assert json.loads(capsys.readouterr().out) == Recipe.model_json_schema()


def test_unknown_field_is_told_with_file_and_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    recipe.write_text(recipe.read_text() + "colour: red\n")
    assert _run(monkeypatch, "recipe", "check", str(recipe)) == 1
    assert f"{recipe}:5: colour" in capsys.readouterr().err


def test_missing_model_is_told_before_a_run_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert _run(monkeypatch, "--home", str(home), "run", str(recipe)) == 1
    error = capsys.readouterr().err
    assert "no-such-model" in error
    assert "Traceback" not in error
    assert _run(monkeypatch, "--home", str(home), "status") == 0
    assert "no runs" in capsys.readouterr().out


def test_unknown_run_is_answered_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _run(monkeypatch, "--home", str(tmp_path), "report", "r9") == 1
    assert "there is no run 'r9'; known are none" in capsys.readouterr().err


def test_unknown_event_type_is_answered_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _run(monkeypatch, "--home", str(tmp_path), "subscribe", "--type", "EvalFaild") == 2
    assert "EvalFailed" in capsys.readouterr().err


def test_doctor_finds_a_store_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("MENDLOOP_ARTIFACTS_URI", f"file://{blocked}/store")
    assert _run(monkeypatch, "--home", str(tmp_path / "home"), "doctor") == 1
    assert "missing" in capsys.readouterr().out


def test_serve_hands_a_service_none_of_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENDLOOP_DATABASE_URL", "mysql://nobody@nowhere/none")
    monkeypatch.setattr(sys, "argv", ["mend", "serve", "controller"])
    with pytest.raises(SystemExit, match=r"the controller cannot start.*mysql"):
        main()
