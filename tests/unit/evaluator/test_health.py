"""A scorer that accepts wrong answers or rejects right ones stops the evaluation before it begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import event, item, recipe, run_spec

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import Permanent
from mendloop.core.records import Item, Score
from mendloop.core.run_spec import RunSpec
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_ref
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.domain.health import check_scorer, refuse_unsound, sample
from mendloop.evaluator.handlers import Ports, on_checkpoint_ready
from mendloop.examples.scan.task import ScanTask
from mendloop.v1 import checkpoint_pb2, common_pb2

ITEMS = [item(f"i{at:02}", prompt=f"walk {at}", target=f"I_WALK {at}") for at in range(64)]


class Rule(ScanTask):
    """Scores by the rule that it is given."""

    def __init__(self, rule: Callable[[str, str], bool]) -> None:
        super().__init__({})
        self._rule = rule

    def score(self, item: Item, output: str) -> Score:
        return Score(float(self._rule(item.target, output)), "rule")


def _fails(target: str, output: str) -> bool:
    raise KeyError(output)


@pytest.mark.parametrize(
    ("rule", "form"),
    [
        (lambda target, output: output == target, "{}"),
        (lambda target, output: output.strip().casefold() == target.casefold(), "{}"),
        (lambda target, output: output.startswith(f"The answer is {target}."), "The answer is {}."),
        (lambda target, output: f"\\boxed{{{target}}}" in output, "\\boxed{{{}}}"),
    ],
)
def test_a_sound_scorer_passes_in_the_form_that_it_wants(rule: Callable[[str, str], bool], form: str) -> None:
    health = check_scorer(Rule(rule), ITEMS)

    assert health.is_sound
    assert (health.form, health.item_count) == (form, 32)
    refuse_unsound(health, task_name="made")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda target, output: True, "wrong answers accepted 100%"),
        (lambda target, output: False, "right answers rejected 100%"),
        (lambda target, output: not output or output == target, "empty outputs accepted 100%"),
        (lambda target, output: output == target or "That is all" in output, "accepted with trailing text 100%"),
        (lambda target, output: output.casefold()[:6] == target.casefold()[:6], "wrong answers accepted 100%"),
        (_fails, "right answers rejected 100%"),
    ],
)
def test_an_unsound_scorer_is_refused_with_the_evidence(rule: Callable[[str, str], bool], said: str) -> None:
    health = check_scorer(Rule(rule), ITEMS)

    with pytest.raises(Permanent, match=said) as refused:
        refuse_unsound(health, task_name="made")
    assert "of item 'i" in str(refused.value)


def test_brittleness_is_measured_and_stops_nothing() -> None:
    health = check_scorer(Rule(lambda target, output: output == target), ITEMS)

    assert health.lost_by_format["space around"] == health.lost_by_format["lower case"] == 1.0
    assert health.lost_by_format["upper case"] == 0.0
    assert health.facts()["is_sound"] is True


def test_one_wrong_label_in_the_sample_stops_nothing() -> None:
    health = check_scorer(Rule(lambda target, output: output == target and not target.endswith(" 2")), ITEMS)

    assert health.rejected_right_share == pytest.approx(1 / 32)
    assert health.is_sound


def test_sealed_items_are_never_references() -> None:
    sealed = [item(f"s{at}", split="sealed") for at in range(8)]

    assert {one.split for one in sample([*sealed, *ITEMS])} == {"search"}


@dataclass
class NoModel:
    """A loader that no test here may reach."""

    def load(self, checkpoint: Artifact) -> object:
        raise AssertionError("the scorer is checked before a model is loaded")


def test_the_check_stops_an_evaluation_before_its_first_shard_and_a_sound_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(tmp_path / "open")
    outcomes = StoredOutcomes(store)
    ports = Ports(store, store, outcomes, outcomes, NoModel(), Telemetry("evaluator"))  # type: ignore[arg-type]
    spec = run_spec(store, recipe=recipe(), items=ITEMS)
    ready = checkpoint_pb2.CheckpointReady(
        position=common_pb2.RunPosition(run_id="r"),
        checkpoint=artifact_ref(spec.base),
        run_spec=artifact_ref(spec.store(store)),
    )
    monkeypatch.setattr(RunSpec, "task", lambda self: Rule(lambda target, output: True))

    with pytest.raises(Permanent, match="failed its check"):
        on_checkpoint_ready(event(ready), ports=ports)

    monkeypatch.setattr(RunSpec, "task", lambda self: ScanTask({}))
    shard = on_checkpoint_ready(event(ready), ports=ports)[0].message
    kept = store.get_doc("scorer-health", shard.evaluation_id)  # type: ignore[attr-defined]
    assert kept is not None
    assert json.loads(kept)["is_sound"] is True
