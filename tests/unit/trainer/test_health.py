"""Labels and the health checks of training data."""

from __future__ import annotations

import pytest

from mendloop.core.training import HealthCheck
from mendloop.trainer.domain.health import failures, health_checks
from mendloop.trainer.domain.labels import IGNORED, LabelledExample, labelled

EOS = 9


def _example(
    *completion: int,
    prompt: tuple[int, ...] = (1, 2),
    is_cut: bool = False,
    prompt_in_loss: bool = False,
    eos: bool = True,
) -> LabelledExample:
    ids = (*prompt, *completion) if is_cut else (*prompt, *completion, EOS)
    return labelled(ids, prompt_length=len(prompt), is_cut=is_cut, prompt_in_loss=prompt_in_loss, eos_in_loss=eos)


def _checks(*examples: LabelledExample) -> dict[str, HealthCheck]:
    return {check.name: check for check in health_checks(examples, prompts=[((1, 2), (1, 2))])}


def test_loss_lies_on_completion_and_eos_by_default() -> None:
    assert _example(3, 4).labels == (IGNORED, IGNORED, 3, 4, EOS)


def test_settings_move_the_loss_to_the_prompt_and_off_the_eos() -> None:
    assert _example(3, prompt_in_loss=True, eos=False).labels == (1, 2, 3, IGNORED)


def test_an_eos_id_inside_the_completion_keeps_its_loss() -> None:
    assert _example(EOS, 4).labels == (IGNORED, IGNORED, EOS, 4, EOS)


def test_a_cut_example_has_no_eos_to_mask() -> None:
    assert _example(3, 4, is_cut=True, eos=False).labels == (IGNORED, IGNORED, 3, 4)


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens, 1 labels"):
        LabelledExample((1, 2), (1,), 1, False)


def test_healthy_data_passes_every_check() -> None:
    checks = _checks(*(_example(3, at) for at in range(20)))

    assert all(check.passed for check in checks.values())
    assert len(checks) == 6
    assert failures(tuple(checks.values())) == ""


def test_masked_eos_is_found_with_its_share() -> None:
    check = _checks(*(_example(3, at, eos=False) for at in range(20)))["eos_in_loss"]

    assert (check.passed, check.value) == (False, 0.0)
    assert "0 of 20" in check.reading
    assert "eos_in_loss: true" in check.reading


def test_loss_on_the_prompt_is_found() -> None:
    check = _checks(*(_example(3, at, prompt_in_loss=True) for at in range(20)))["label_mask"]

    assert not check.passed
    assert "40 of 40 prompt tokens" in check.reading


def test_completion_tokens_without_loss_are_found() -> None:
    masked = LabelledExample((1, 2, 3, 4, EOS), (IGNORED, IGNORED, IGNORED, 4, EOS), 2, False)

    check = _checks(masked, _example(5, 6))["label_mask"]

    assert (check.passed, check.value) == (False, 0.75)


def test_a_prompt_that_evaluation_tokenizes_otherwise_is_found() -> None:
    checks = health_checks([_example(3)], prompts=[((1, 2), (1, 2)), ((1, 2), (1, 3))])

    parity = next(check for check in checks if check.name == "template_parity")
    assert (parity.passed, parity.value) == (False, 0.5)


@pytest.mark.parametrize(("cut_count", "passed"), [(1, True), (2, False)])
def test_more_than_one_cut_example_in_twenty_fails(cut_count: int, passed: bool) -> None:
    checks = _checks(*(_example(3, at, is_cut=at < cut_count) for at in range(20)))

    assert checks["truncation"].passed is passed
    assert checks["eos_in_loss"].passed is passed
    assert checks["truncation"].value == cut_count / 20


@pytest.mark.parametrize(("repeats", "passed"), [(5, True), (6, False)])
def test_more_than_a_quarter_of_duplicates_fails(repeats: int, passed: bool) -> None:
    rows = [_example(3, at) for at in range(20 - repeats)]

    check = _checks(*rows, *(_example(3, 0) for _ in range(repeats)))["duplicates"]

    assert check.passed is passed
    assert check.value == repeats / 20


def test_one_completion_that_is_cut_away_fails() -> None:
    check = _checks(_example(is_cut=True), _example(), *(_example(3, at) for at in range(40)))["empty_completions"]

    assert not check.passed
    assert "2 of 42" in check.reading


def test_failures_are_named_together() -> None:
    checks = tuple(_checks(*(_example(3, eos=False) for _ in range(4))).values())

    assert "eos_in_loss: " in failures(checks)
    assert "duplicates: " in failures(checks)
    assert "truncation" not in failures(checks)


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        health_checks([], prompts=[])
