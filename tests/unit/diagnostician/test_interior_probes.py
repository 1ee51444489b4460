"""On a trained model with planted failures both probes that look inside say what was planted, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_world import CODES, COLOURS, NEVER_SEEN, SECRET, colour_case, train_model

from mendloop.core.tasks import Conditions
from mendloop.diagnostician.adapters.looking import Looking
from mendloop.diagnostician.adapters.probes.linear_probe import LinearProbe
from mendloop.diagnostician.adapters.probes.patching import Patching
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import Probe, investigate
from mendloop.models.encoding import Ids
from mendloop.models.inside import ModelInside
from mendloop.models.inspection import States
from mendloop.models.transformers_backend import TransformersModel, load_model

LOOK = Looking()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def model(directory: Path) -> TransformersModel:
    return load_model(directory, device_name="cpu")


def case_of(model: TransformersModel, directory: Path, conditions: Conditions) -> Case:
    return colour_case(model, directory, conditions)


def measured(probe: Probe, case: Case) -> dict[tuple[str, str], Evidence]:
    return {(row.measurement, row.sample): row for row in probe.run(case)}


def test_the_plant_holds_what_is_said_secretly_needs_the_colour(model: TransformersModel, directory: Path) -> None:
    case = case_of(model, directory, SECRET)
    failed = [row for sample in case.samples for row in sample.failed]
    coded = [row.outcome.output == CODES[COLOURS.index(row.item.target)] for row in failed]
    assert len(failed) == 48
    assert np.mean(coded) > 0.9, "the right code of a thing whose code was never trained"


def test_an_answer_that_is_computed_and_not_said_is_found(model: TransformersModel, directory: Path) -> None:
    rows = measured(LinearProbe(look=LOOK), case_of(model, directory, SECRET))
    for name in ("a", "b"):
        assert rows["accuracy", name].value > 0.6
        assert rows["selectivity", name].low > 0
        assert "stands in the state and is not used" in rows["selectivity", name].reading
    assert "128 training examples with a refuted label are left out" in rows["passing_accuracy", "a"].reading


def test_an_answer_that_was_never_learnt_is_not_found(model: TransformersModel, directory: Path) -> None:
    rows = measured(LinearProbe(look=LOOK), case_of(model, directory, NEVER_SEEN))
    for name in ("a", "b"):
        assert rows["passing_accuracy", name].low > 0.8
        assert rows["accuracy", name].high < 0.3
        assert "is absent from what a linear classifier reads" in rows["selectivity", name].reading


class _WordsOnly(ModelInside):
    """A checkpoint whose states tell which thing the prompt names, and nothing of its colour."""

    def states(self, sequences: Sequence[Ids], *, layers: Sequence[int], positions: Sequence[int] = (-1,)) -> States:
        things = np.eye(256, dtype=np.float32)[[ids[-3] for ids in sequences]]
        return np.repeat(things[:, None, None], len(layers), axis=1)


def test_a_lookup_that_was_learnt_by_heart_does_not_pass_the_control(model: TransformersModel, directory: Path) -> None:
    rows = measured(LinearProbe(look=lambda case: _WordsOnly(model)), case_of(model, directory, SECRET))
    for name in ("a", "b"):
        assert rows["accuracy", name].value > 0.8, "the classifier itself looks as if the answer were there"
        assert rows["control_accuracy", name].value > 0.8
        assert "cannot be told" in rows["selectivity", name].reading


def test_a_token_that_was_never_learnt_from_is_not_called_absent(model: TransformersModel, directory: Path) -> None:
    case = case_of(model, directory, SECRET)
    red_only = tuple(
        replace(
            sample,
            failed=tuple(row for row in sample.failed if row.item.target == "red"),
            outcomes=tuple(row for row in sample.outcomes if row.target != "red"),
        )
        for sample in case.samples
    )
    rows = measured(LinearProbe(look=LOOK), replace(case, samples=red_only, corpus=()))
    assert "are tokens that were never learnt from" in rows["accuracy", "a"].reading
    assert rows["accuracy", "a"].value == 0
    assert "too few of the right tokens were learnt from" in rows["selectivity", "a"].reading


def test_patching_restores_what_a_like_prompt_computes(model: TransformersModel, directory: Path) -> None:
    rows = measured(Patching(look=LOOK), case_of(model, directory, SECRET))
    for name in ("a", "b"):
        assert rows["restored_share", name].value > 0.7
        assert rows["restored_share", name].value > rows["mismatched_restored_share", name].value
        assert rows["recovery", name].low > 0.4
    assert 0 < rows["best_layer", ""].value < 3


def test_patching_cannot_restore_what_no_passing_prompt_computes(model: TransformersModel, directory: Path) -> None:
    rows = measured(Patching(look=LOOK), case_of(model, directory, NEVER_SEEN))
    assert max(rows["restored_share", name].value for name in ("a", "b")) < 0.6
    assert "in " in rows["best_layer", ""].reading


def test_the_heat_map_shows_all_of_it_before_any_layer_and_at_the_last(
    model: TransformersModel, directory: Path
) -> None:
    attachment = measured(Patching(look=LOOK), case_of(model, directory, NEVER_SEEN))["best_layer", ""].attachment
    assert attachment is not None
    document = dict(attachment.document)
    values = {
        (layer, place): value
        for layer, row in zip(document["layers"], document["values"], strict=True)
        for place, value in zip(document["positions"], row, strict=True)
    }
    assert document["pairs"] == 48
    assert values[0, "differing words"] == pytest.approx(1, abs=1e-3), "only the thing differs"
    assert values[3, "last token"] == pytest.approx(1, abs=1e-3)
    assert values[3, "differing words"] == values[0, "last token"] == pytest.approx(0, abs=1e-3)
    example = document["example"]
    assert len(example["values"]) == len(example["layers"])
    assert sum("←" in token for token in example["positions"]) == 1


@pytest.mark.parametrize("probe", [LinearProbe(look=LOOK), Patching(look=LOOK)])
def test_without_weights_or_failures_both_say_so(model: TransformersModel, directory: Path, probe: Probe) -> None:
    case = case_of(model, directory, SECRET)
    blind = probe.run(replace(case, weights=None))
    assert {row.n for row in blind} == {0}
    assert "weights are not at hand" in blind[0].reading
    a, b = (replace(sample, failed=()) for sample in case.samples)
    assert {row.reading for row in probe.run(replace(case, samples=(a, b)))} == {"No failed item is at hand."}


def test_three_failures_and_no_passing_items_are_too_few(model: TransformersModel, directory: Path) -> None:
    case = case_of(model, directory, SECRET)
    few = tuple(replace(sample, failed=sample.failed[:1]) for sample in case.samples)
    assert "2 failed outputs have a wrong token" in LinearProbe(look=LOOK).run(replace(case, samples=few))[0].reading
    assert "1 and 1 failed prompts" in Patching(look=LOOK).run(replace(case, samples=few))[0].reading
    lone = tuple(
        replace(sample, passing=(), outcomes=tuple(row for row in sample.outcomes if not row.is_correct))
        for sample in case.samples
    )
    lonely = replace(case, samples=lone, corpus=())
    assert "too few to learn from" in LinearProbe(look=LOOK).run(lonely)[0].reading
    assert "48 without a like passing prompt" in Patching(look=LOOK).run(lonely)[0].reading


def test_patching_stops_at_its_time_budget_and_counts_what_it_left(model: TransformersModel, directory: Path) -> None:
    ticks = iter(range(1000))
    probe = Patching(look=LOOK, budget_s=10, clock=lambda: float(next(ticks)))
    rows = measured(probe, case_of(model, directory, SECRET))
    assert rows["restored_share", "a"].n + rows["restored_share", "b"].n == 9
    assert "39 not reached in time" in rows["restored_share", "a"].reading


def test_weights_that_do_not_load_are_evidence_with_the_reason(model: TransformersModel, tmp_path: Path) -> None:
    case = replace(case_of(model, tmp_path, SECRET), weights=lambda: tmp_path)
    findings = investigate(case, [LinearProbe()], is_clear=lambda rows: False, clock=lambda: 0.0)
    assert (findings.evidence[-1].n, findings.evidence[-1].probe) == (0, "linear_probe")
    assert "no config.json" in findings.evidence[-1].reading
