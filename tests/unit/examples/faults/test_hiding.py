"""Two faults at once are a fair question only where each causes failures of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import outcome
from fault_family import TinyFamily

from mendloop.core.records import Outcome
from mendloop.examples.faults import hiding
from mendloop.examples.faults.hiding import hidden_side
from mendloop.examples.faults.many import BESIDE, PARTIAL, pair_specs, single_specs
from mendloop.examples.faults.plan import Plan
from mendloop.examples.faults.planning import Planting, Spec, plan_faults

FAULTY, SOUND = Path("faulty"), Path("sound")
IDS = [f"i{at}" for at in range(40)]


def _said(monkeypatch: pytest.MonkeyPatch, *, training: set[str], evaluation: set[str], names: list[str]) -> str:
    """What is said where these items fail for the training's sake, and those for the evaluation's."""

    def evaluate(plan: Plan, checkpoint: Path) -> list[Outcome]:
        wrong = training if checkpoint == FAULTY else evaluation
        return [outcome(item_id, score=float(item_id not in wrong)) for item_id in IDS]

    monkeypatch.setattr(hiding, "evaluate", evaluate)
    spec = Spec("tiny", tuple(Planting(name, 0.5) for name in names), 1)
    planned = plan_faults(TinyFamily(), spec)
    failed = training | evaluation
    return hidden_side(planned.plan, planned.healthy, failed, checkpoint=FAULTY, healthy_checkpoint=SOUND)


def test_two_faults_with_failures_of_their_own_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _said(
        monkeypatch, training=set(IDS[:20]), evaluation=set(IDS[10:30]), names=["wrong-labels", "wrong-targets"]
    )

    assert said == ""


def test_a_fault_that_fails_everything_hides_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _said(monkeypatch, training=set(IDS), evaluation=set(IDS[10:30]), names=["missing", "wrong-targets"])

    assert said == "one fault hides the other: of 40 failures the evaluation alone causes 0"


def test_one_fault_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _said(monkeypatch, training=set(IDS), evaluation=set(), names=["missing"]) == ""


def test_pairs_of_the_benchmark_lie_in_the_training_and_in_the_evaluation() -> None:
    specs = pair_specs(["facts"], seeds=[0, 1])

    assert len({spec.name for spec in specs}) == len(specs) == 12
    assert all(spec.plantings[0].fault in PARTIAL and spec.plantings[1].fault in BESIDE for spec in specs)


def test_every_seed_of_the_benchmark_has_every_fault_of_a_family_once() -> None:
    specs = single_specs(["facts"], seeds=[3])

    names = [spec.plantings[0].fault for spec in specs]
    assert len(names) == len(set(names)) >= 18
