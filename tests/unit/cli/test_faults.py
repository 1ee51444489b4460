"""`mend faults`: what it lists, plants and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_family import TinyFamily
from typer.testing import CliRunner

from mendloop.cli.faults import faults_app
from mendloop.core.errors import InvalidRecipe
from mendloop.examples.faults import registry
from mendloop.examples.faults.catalogue import FAULTS

runner = CliRunner(env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny family stands where the shipped ones do."""
    monkeypatch.setattr(registry, "FAMILIES", {"tiny": "fault_family:TinyFamily"})
    assert isinstance(registry.find_family("tiny"), TinyFamily)


def test_list_names_every_fault_with_its_families() -> None:
    output = runner.invoke(faults_app, ["list", "--markdown"]).output

    rows = {line.split(" | ")[0].removeprefix("| "): line for line in output.splitlines()}
    assert {fault.name for fault in FAULTS} < rows.keys()
    assert rows["missing"].endswith("| tiny |")
    assert rows["wrong-scorer"].endswith("|  |")


def test_plant_tells_what_it_did_and_what_comes_next(tmp_path: Path) -> None:
    out = tmp_path / "case"

    done = runner.invoke(faults_app, ["plant", "missing", "--family", "tiny", "--out", str(out)])

    assert done.exit_code == 0
    assert "missing: DATA_MISSING, severity 0.75" in done.output
    assert f"mend diagnose {out}" in done.output
    assert json.loads((out / "planted.json").read_text())["family"] == "tiny"


def test_measured_shows_before_and_after_of_each_planted_fault(tmp_path: Path) -> None:
    for name in ("missing", "wrapped"):
        runner.invoke(faults_app, ["plant", name, "--family", "tiny", "--out", str(tmp_path / name)])

    output = runner.invoke(faults_app, ["list", "--measured", str(tmp_path), "--markdown"]).output

    [missing] = [line for line in output.splitlines() if line.startswith("| missing ")]
    [rare] = [line for line in output.splitlines() if line.startswith("| rare ")]
    assert "→" in missing
    assert rare.endswith("| not planted |")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--family", "tiny"], "unknown fault 'absent'"),
        (["missing", "--family", "elsewhere"], "unknown fault family 'elsewhere'"),
        (["wrong-scorer", "--family", "tiny"], "cannot be planted in family tiny"),
        (["missing", "--family", "tiny", "--severity", "2"], "severity of missing is 2.0"),
    ],
)
def test_what_cannot_be_planted_is_refused_with_what_to_do(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = runner.invoke(faults_app, ["plant", *arguments, "--out", str(tmp_path / "case")])

    assert isinstance(done.exception, InvalidRecipe)
    assert message in str(done.exception)
