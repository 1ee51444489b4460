"""Probes that read what was measured before: variants of the same items, and steps that were found wrong."""

from __future__ import annotations

from dataclasses import replace

from diagnosis_cases import ToyModel, ToyTask, all_items, answer_of, case_of, outcomes_of, wrong_on

from mendloop.cli.diagnose import VARIANT_KINDS
from mendloop.core.records import Outcome
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probes.step_check import StepCheck
from mendloop.diagnostician.domain.probes.stored_variants import VARIANTS, StoredVariants


def _by_name(rows: tuple[Evidence, ...], probe: str, measurement: str) -> list[Evidence]:
    return [row for row in rows if (row.probe, row.measurement) == (probe, measurement)]


def _with_variant(kind: str, outcomes: list[Outcome]) -> Case:
    return replace(case_of(ToyModel(wrong_on("green"))), variants={kind: outcomes})


def _right_outcomes() -> list[Outcome]:
    return outcomes_of(ToyModel(answer_of), ToyTask(), all_items(), max_new_tokens=8)


def test_a_variant_that_mends_every_failure_fills_the_row_of_its_probe() -> None:
    rows = StoredVariants().run(_with_variant("steps", _right_outcomes()))

    rescued = _by_name(rows, "first_steps", "elicited_rescued_share")
    assert [row.sample for row in rescued] == ["a", "b"]
    assert all(row.value == 1.0 and row.n >= 10 for row in rescued)
    assert all(row.n == 0 for row in _by_name(rows, "first_steps", "elicited_broken_share")), "all of the slice failed"


def test_a_variant_that_breaks_what_was_right_says_so() -> None:
    blind = outcomes_of(ToyModel(lambda prompt: "no idea at all"), ToyTask(), all_items(), max_new_tokens=8)

    case = case_of(ToyModel(wrong_on("green")), conditions=(("size", "big"),))
    rows = StoredVariants().run(replace(case, variants={"wording": blind}))

    broken = _by_name(rows, "paraphrase", "passing_broken_share")
    assert all(row.value == 1.0 and row.n > 10 for row in broken)
    assert all(row.value == 0.0 for row in _by_name(rows, "paraphrase", "rescued_share"))


def test_an_item_whose_target_changed_is_not_counted_as_measured_again() -> None:
    others = [replace(row, target=f"{row.target} else") for row in _right_outcomes()]

    rows = StoredVariants().run(_with_variant("earlier", others))

    assert rows
    assert all(row.n == 0 and "None of the" in row.reading for row in rows)


def test_only_the_first_draw_of_an_item_counts() -> None:
    second = [replace(row, repeat_index=1, score=0.0) for row in _right_outcomes()]

    rows = StoredVariants().run(_with_variant("longer", second + _right_outcomes()))

    assert all(row.value == 1.0 for row in _by_name(rows, "longer_budget", "rescued_share"))


def test_without_variants_there_is_no_row() -> None:
    assert StoredVariants().run(case_of(ToyModel(wrong_on("green")))) == ()


def test_every_variant_names_rows_that_no_other_variant_fills() -> None:
    names = [(v.probe, m) for v in VARIANTS.values() for m in (v.rescued, v.broken)]
    assert len(set(names)) == len(names)


def test_first_wrong_steps_are_counted_by_operation_with_right_outputs_as_control() -> None:
    case = case_of(ToyModel(wrong_on("green")))
    samples = tuple(
        replace(
            sample,
            failed=tuple(
                replace(row, outcome=replace(row.outcome, first_wrong_step=1, wrong_operation="paint"))
                for row in sample.failed
            ),
            outcomes=tuple(replace(row, first_wrong_step=1) for row in sample.outcomes),
        )
        for sample in case.samples
    )

    rows = StepCheck().run(replace(case, samples=(samples[0], samples[1])))

    failed = _by_name(rows, "step_check", "wrong_step_share")
    assert all(row.value == 1.0 and "paint" in row.reading for row in failed)
    assert all(row.attachment is not None and row.attachment.kind == "table" for row in failed)
    assert all(row.value == 0.0 for row in _by_name(rows, "step_check", "wrong_step_passing"))


def test_where_nobody_looked_at_steps_the_probe_says_so() -> None:
    rows = StepCheck().run(case_of(ToyModel(wrong_on("green"))))

    assert [row.n for row in rows] == [0, 0]
    assert all("nobody looked" in row.reading for row in rows)


def test_the_command_offers_every_variant() -> None:
    assert set(VARIANT_KINDS) == set(VARIANTS)
