"""Planting writes a case that opens, tells the truth beside it, trains nothing twice and admits what does not bite."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fault_family import TinyFamily

from mendloop.diagnostician.adapters.case_folder import open_case
from mendloop.examples.faults import planting, workshop
from mendloop.examples.faults.planning import Planting, Spec
from mendloop.examples.faults.planting import PLANTED_FILE, Planted, plant, read_planted

FAMILY = TinyFamily()


def _spec(*names: str, severity: float = 1.0, seed: int = 1) -> Spec:
    return Spec("tiny", tuple(Planting(name, severity) for name in names), seed)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where each training began."""
    begun: list[Path] = []
    train = workshop.train

    def counted(start_dir: Path, *args: object, **kwargs: object) -> object:
        begun.append(start_dir)
        return train(start_dir, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(workshop, "train", counted)
    return begun


def _plant(tmp_path: Path, spec: Spec) -> Planted:
    return plant(FAMILY, spec, out_dir=tmp_path / spec.name, cache=tmp_path / "healthy")


def test_a_planted_case_opens_and_its_truth_stands_beside_it(tmp_path: Path, trainings: list[Path]) -> None:
    spec = _spec("missing")
    planted = _plant(tmp_path, spec)

    case = open_case(tmp_path / spec.name)
    truth = json.loads((tmp_path / spec.name / PLANTED_FILE).read_text())

    assert case.conditions == planted.conditions
    assert case.failed_count == planted.n - planted.correct
    assert [(fault["cause"], fault["severity"]) for fault in truth["faults"]] == [("DATA_MISSING", 1.0)]
    assert "planted" not in (tmp_path / spec.name / "case.json").read_text()
    assert len(trainings) == 2


def test_faults_of_the_evaluation_share_one_healthy_training(tmp_path: Path, trainings: list[Path]) -> None:
    for name in ("wrapped", "wrong-targets", "cut-off"):
        _plant(tmp_path, _spec(name))

    assert len(trainings) == 1


def test_a_finished_case_is_kept_and_another_world_replaces_it(tmp_path: Path, trainings: list[Path]) -> None:
    spec = _spec("eos-masked")
    first = _plant(tmp_path, spec)
    begun = len(trainings)

    assert _plant(tmp_path, spec) == first
    assert len(trainings) == begun

    shorter = replace(spec, item_count=9)
    again = plant(FAMILY, shorter, out_dir=tmp_path / spec.name, cache=tmp_path / "healthy")
    assert again.sha != first.sha
    assert read_planted(tmp_path / spec.name) == again


def test_a_plant_that_does_not_bite_says_so(tmp_path: Path) -> None:
    planted = _plant(tmp_path, replace(_spec("missing"), item_count=9))

    assert planted.n - planted.correct < 12
    assert not planted.bites
    assert planted.why_not


def test_a_training_that_fails_outside_the_slice_too_is_repeated_and_then_admitted(
    tmp_path: Path, trainings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planting, "MOST_SPOILT", -2.0)  # no rest is good enough

    planted = _plant(tmp_path, _spec("missing"))

    assert len(trainings) == 4
    assert (planted.attempt, planted.bites) == (2, False)
    assert "failed by itself" in planted.why_not


def test_forgetting_keeps_the_checkpoint_that_it_began_from(tmp_path: Path, trainings: list[Path]) -> None:
    spec = _spec("forgotten")
    _plant(tmp_path, spec)

    case = open_case(tmp_path / spec.name)

    assert case.earlier is not None
    assert trainings[1].parent.parent == tmp_path / "healthy"


def test_damaged_weights_are_the_healthy_ones_with_noise(tmp_path: Path, trainings: list[Path]) -> None:
    spec = _spec("damaged-weights")
    _plant(tmp_path, spec)
    [healthy] = (tmp_path / "healthy").glob("*/model/model.safetensors")

    assert len(trainings) == 1
    assert (tmp_path / spec.name / "model" / "model.safetensors").read_bytes() != healthy.read_bytes()


def test_flaky_outputs_are_other_items_outputs(tmp_path: Path) -> None:
    spec = _spec("flaky-outputs", severity=0.5)
    _plant(tmp_path, spec)
    case = open_case(tmp_path / spec.name)
    assert case.model is not None
    rows = [row for sample in case.samples for row in (*sample.failed, *sample.passing)]
    outputs = case.model.generate([case.template(row.item.prompt) for row in rows], max_new_tokens=16)

    changed = sum(output.text != row.outcome.output for output, row in zip(outputs, rows, strict=True))
    assert changed
