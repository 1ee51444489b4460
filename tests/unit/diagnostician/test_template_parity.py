"""The probe of templates: finds the one that the training examples were learnt in, and says where it knows none."""

from __future__ import annotations

import pytest
from diagnosis_cases import TEMPLATE, ToyModel, case_of, wrong_on
from probe_models import Templated, rows_of, values

from mendloop.core.recipe import TrainSettings
from mendloop.diagnostician.adapters.probes.template_parity import TemplateParity, other_templates
from mendloop.diagnostician.domain.case import Training

NAMES = ("rescued_share", "corpus_gain_nats")


def _training(template: str) -> Training:
    return Training(TrainSettings(), (), (), 240, template=lambda text: template.replace("{prompt}", text))


def test_the_trainings_own_template_rescues_what_the_declared_one_fails() -> None:
    model = Templated(template="IN: {prompt} OUT:")
    case = case_of(model, training=_training("IN: {prompt} OUT:"))
    rows = rows_of(TemplateParity(), case)
    assert values(TemplateParity(), case, *NAMES) == [1, pytest.approx(2.99)]
    assert rows["template_differs", ""].value == 1
    assert "in the training's template 'IN: {prompt} OUT:' instead of 'Q: {prompt} A:'" in (
        rows["rescued_share", "a"].reading
    )


def test_a_usual_template_is_found_without_a_report() -> None:
    case = case_of(Templated(template="{prompt}"))
    assert values(TemplateParity(), case, *NAMES) == [1, pytest.approx(2.99)]
    assert rows_of(TemplateParity(), case)["template_differs", ""].n == 0


def test_a_model_that_lacks_data_is_not_helped_by_a_template() -> None:
    case = case_of(Templated(answers=wrong_on("green")), training=_training(TEMPLATE))
    rescued, gain = values(TemplateParity(), case, *NAMES)
    assert (rescued, gain) == (0, pytest.approx(-2.99))
    assert rows_of(TemplateParity(), case)["template_differs", ""].value == 0


def test_without_a_model_texts_are_still_compared() -> None:
    rows = rows_of(
        TemplateParity(), case_of(ToyModel(wrong_on("green")), training=_training("{prompt}"), has_model=False)
    )
    assert rows["template_differs", ""].value == 1
    assert {row.n for (name, _), row in rows.items() if name in NAMES} == {0}


def test_the_declared_template_is_no_other_one() -> None:
    names = list(other_templates(case_of(ToyModel(wrong_on("green")), training=_training(TEMPLATE))))
    assert names[0] == "the template '{prompt}'"
    assert len(names) == 3
