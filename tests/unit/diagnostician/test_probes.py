"""Each probe by itself: what it measures, what it refuses to count, and what it says where it cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from builders import outcome
from diagnosis_cases import (
    GREEN,
    ToyModel,
    ToyTask,
    all_items,
    all_probes,
    answer_of,
    case_of,
    corpus_of,
    prompt_of,
    wrong_on,
)

from mendloop.core.errors import CorruptArtifact, Interrupted, Permanent
from mendloop.core.records import Example, Item, Score, fingerprint
from mendloop.diagnostician.adapters.probes.longer_budget import LongerBudget
from mendloop.diagnostician.adapters.probes.open_book import OpenBook, worked_prompt
from mendloop.diagnostician.adapters.probes.token_loss import TokenLoss
from mendloop.diagnostician.adapters.probes.training_fit import TrainingFit
from mendloop.diagnostician.domain.case import Case, draw_samples, first_draws
from mendloop.diagnostician.domain.cutting import is_right_when_cut
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probes.corpus_coverage import CorpusCoverage, bigrams
from mendloop.diagnostician.domain.probes.forced_stop import ForcedStop
from mendloop.diagnostician.domain.probes.label_audit import LabelAudit
from mendloop.diagnostician.domain.probes.rescoring import Rescoring
from mendloop.diagnostician.domain.probing import CostClass, Probe, investigate
from mendloop.models.generation import Generation


def _rows(probe: Probe, case: Case) -> dict[tuple[str, str], Evidence]:
    return {(row.measurement, row.sample): row for row in probe.run(case)}


def test_every_probe_runs_cheap_before_dear_and_has_its_own_name() -> None:
    probes = all_probes()
    assert [probe.cost_class for probe in probes] == sorted(probe.cost_class for probe in probes)
    assert len({probe.name for probe in probes}) == len(probes)


def test_samples_are_disjoint_seeded_and_count_a_repeated_item_once() -> None:
    items = {row.item_id: row for row in all_items()}
    outcomes = [outcome(name, score=0.0, target=row.target, axes=row.axes) for name, row in items.items()] * 2
    a, b = draw_samples(outcomes, items, GREEN, seed=1)
    again = draw_samples(outcomes, items, GREEN, seed=1)
    names_a, names_b = ({row.item.item_id for row in sample.failed} for sample in (a, b))
    assert len(names_a) == len(names_b) == 20
    assert not names_a & names_b
    assert (a, b) == again
    assert draw_samples(outcomes, items, GREEN, seed=2) != again
    assert len(a.outcomes) + len(b.outcomes) == len(items)


def test_the_first_of_repeated_outcomes_counts_in_whatever_order_they_come() -> None:
    again, first = (replace(outcome("i2", score=score), repeat_index=at) for at, score in ((1, 1.0), (0, 0.0)))
    alone = replace(outcome("i1"), repeat_index=3)
    assert list(first_draws([again, first, alone]).items()) == [("i1", alone), ("i2", first)]
    assert first_draws([first, alone, again]) == first_draws([again, first, alone])


def test_an_outcome_without_item_is_a_permanent_fault() -> None:
    with pytest.raises(Permanent, match="belongs to no item"):
        draw_samples([outcome("lost", score=0.0, axes={"colour": ("green",)})], {}, GREEN, seed=1)


@pytest.mark.parametrize(
    ("output", "is_right"),
    [
        ("thing1 red done thing1 red", True),
        ("thing1 red done", True),
        ("I say thing1 red done", False),
        ("thing1 red", False),
        ("", False),
    ],
)
def test_cutting_finds_a_target_at_the_beginning_only(output: str, is_right: bool) -> None:
    item = Item("i", "take thing1 and paint red", "thing1 red done", "search")
    assert is_right_when_cut(ToyTask(), item, output) is is_right


def test_forced_stop_tells_outputs_that_run_on_from_unfinished_ones() -> None:
    running = _rows(ForcedStop(), case_of(ToyModel(never_stops=lambda prompt: True)))
    short = _rows(ForcedStop(), case_of(ToyModel(), max_new_tokens=2))
    late = _rows(ForcedStop(), case_of(ToyModel(answers=lambda prompt: answer_of(prompt) + " again")))
    names = ("stopped_by_length", "rescued_share", "unfinished_share", "ran_past_share")
    assert [running[name, "a"].value for name in names] == [1, 1, 0, 1]
    assert [short[name, "b"].value for name in names] == [1, 0, 1, 1]
    assert [late[name, "a"].value for name in names] == [0, 1, 0, 1]


def test_rescoring_counts_only_outputs_that_ended() -> None:
    shout = ToyModel(answers=lambda prompt: answer_of(prompt).upper(), never_stops=lambda prompt: "thing1" in prompt)
    case = case_of(shout, max_new_tokens=3)
    rows = _rows(Rescoring(), case)
    ended = sum(row.outcome.stop_reason != "length" for row in case.samples[0].failed)
    assert rows["rescued_share", "a"].value == pytest.approx(ended / len(case.samples[0].failed))
    assert rows["accepted_mismatched_share", "a"].value == 0


def test_an_answer_that_says_more_than_the_target_is_no_scorer_fault() -> None:
    class Lenient(ToyTask):
        def rescore(self, item: Item, output: str) -> Score:
            return Score(float(output.startswith(item.target)), "prefix")

    rows = _rows(Rescoring(), case_of(ToyModel(answers=lambda prompt: answer_of(prompt) + " again"), task=Lenient()))
    assert rows["rescued_share", "a"].value == 0
    assert "20 say more than a right beginning" in rows["rescued_share", "a"].reading


def test_longer_budget_asks_only_for_outputs_that_were_cut_off() -> None:
    model = ToyModel(answers=wrong_on("green"))
    rows = _rows(LongerBudget(), case_of(model))
    assert not model.prompts
    assert (rows["rescued_share", "a"].value, rows["rescued_share", "a"].n) == (0, 20)


def test_longer_budget_sees_what_never_stops() -> None:
    rows = _rows(LongerBudget(), case_of(ToyModel(never_stops=lambda prompt: True)))
    assert (rows["rescued_share", "a"].value, rows["still_running_share", "a"].value) == (0, 1)
    assert rows["rescuing_budget", ""].n == 0


def test_bigrams_know_where_a_prompt_begins_and_ends() -> None:
    assert bigrams("Go now") == {("<s>", "go"), ("go", "now"), ("now", "</s>")}


def test_coverage_counts_distinct_prompts_against_siblings() -> None:
    corpus = corpus_of(per_colour={"green": 4})
    rows = _rows(CorpusCoverage(), case_of(ToyModel(answers=wrong_on("green")), corpus=corpus * 3))
    assert rows["distinct_prompts", ""].value == 4
    assert rows["sibling_ratio", ""].value == pytest.approx(4 / 40)
    assert rows["excess_failure_share", "a"].value == 1
    assert rows["unseen_bigram_failed", "a"].value == 0


def test_coverage_compares_a_conjunction_on_its_rarest_axis() -> None:
    corpus = [row for row in corpus_of() if (row.axes["colour"], row.axes["size"]) != (("green",), ("big",))]
    conditions = (("colour", "green"), ("size", "big"))
    rows = _rows(CorpusCoverage(), case_of(ToyModel(answers=wrong_on("green")), conditions=conditions, corpus=corpus))
    assert rows["sibling_ratio", ""].value == 0
    assert rows["distinct_prompts", ""].value == 0


def test_coverage_of_equally_rare_axes_compares_with_the_best_covered_siblings() -> None:
    corpus = [
        *corpus_of(per_colour={"green": 0}),
        Example("green", "x green done", "corpus", axes={"colour": ("green",), "size": ("small",)}),
    ]
    conditions = (("colour", "green"), ("size", "big"))
    case = case_of(ToyModel(answers=wrong_on("green")), conditions=conditions, corpus=corpus)
    rows = _rows(CorpusCoverage(), case)
    assert "other values of colour" in rows["sibling_ratio", ""].reading
    assert rows["excess_failure_share", "a"].value == 1


def test_coverage_of_all_items_has_no_siblings() -> None:
    rows = _rows(CorpusCoverage(), case_of(ToyModel(answers=wrong_on("green")), conditions=()))
    assert rows["sibling_ratio", ""].n == rows["excess_failure_share", "a"].n == 0


def test_token_loss_never_scores_an_evaluation_item() -> None:
    model = ToyModel(answers=wrong_on("green"), answer_nats=0.25, eos_nats=9.0)
    rows = _rows(TokenLoss(), case_of(model))
    asked = {fingerprint(text.removeprefix("Q: ").removesuffix(" A:")) for text in model.prompts}
    assert asked
    assert not asked & {fingerprint(item.prompt) for item in all_items()}
    assert rows["answer_nats", ""].value == pytest.approx(0.25)
    assert rows["eos_nats", ""].value == pytest.approx(9.0)
    assert rows["slice_answer_nats", ""].n == 32


def test_token_loss_says_where_the_slice_has_no_examples() -> None:
    rows = _rows(TokenLoss(), case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 0})))
    assert rows["slice_answer_nats", ""].n == 0
    assert "There are 0 training examples of the slice" in rows["slice_answer_nats", ""].reading


def test_training_fit_is_not_confounded_by_the_suites_token_limit() -> None:
    rows = _rows(TrainingFit(), case_of(ToyModel(), max_new_tokens=2))
    assert rows["right_share", ""].value == 1


def test_training_fit_counts_answers_that_lack_only_their_end() -> None:
    rows = _rows(TrainingFit(), case_of(ToyModel(never_stops=lambda prompt: True)))
    assert (rows["right_share", ""].value, rows["right_when_cut_share", ""].value) == (0, 1)


def test_open_book_never_holds_the_item_itself() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    item = Item("i", prompt_of(2, "green").upper(), "x", "search", axes={"colour": ("green",), "size": ("small",)})
    book = [row for row in case.corpus if row.axes["colour"] == ("green",)]
    assert fingerprint(item.prompt) in {fingerprint(row.prompt) for row in book}
    text = worked_prompt(case, item, book)
    assert text.lower().count("thing2 ") == 1, "the item's own worked example was left out"
    assert text.count("done") == 3
    assert text.endswith(case.template(item.prompt))


def test_open_book_needs_worked_examples_of_the_slice() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 1}))
    row = _rows(OpenBook(), case)["rescued_share", "a"]
    assert row.n == 0
    assert "holds 1 distinct examples of the slice" in row.reading


def test_label_audit_says_that_there_is_no_report() -> None:
    rows = LabelAudit().run(case_of(ToyModel(answers=wrong_on("green"))))
    assert {(row.n, row.reading) for row in rows} == {(0, "There is no training report.")}


class _Refusing(ToyModel):
    error: Exception = Permanent("a prompt of 900 tokens leaves no room")

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        raise self.error


def test_a_probe_that_the_model_refuses_is_evidence_with_the_reason() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    case.model.__class__ = _Refusing
    findings = investigate(case, [OpenBook()], is_clear=lambda rows: False, clock=lambda: 0.0)
    assert (findings.evidence[-1].n, findings.evidence[-1].probe) == (0, "open_book")
    assert "leaves no room" in findings.evidence[-1].reading


def test_a_checkpoint_that_does_not_load_is_no_evidence() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    case.model.__class__ = type("Broken", (_Refusing,), {"error": CorruptArtifact("truncated")})
    with pytest.raises(CorruptArtifact):
        investigate(case, [OpenBook()], is_clear=lambda rows: False, clock=lambda: 0.0)


def test_cost_is_metered_once_a_probe() -> None:
    ticks = iter(range(100))
    case = case_of(ToyModel(answers=wrong_on("green")))
    findings = investigate(case, all_probes(), is_clear=lambda rows: False, clock=lambda: float(next(ticks)))
    assert findings.cost.wall_s == len(all_probes()) == sum(row.cost.wall_s for row in findings.evidence)
    assert findings.cost.token_count == sum(row.cost.token_count for row in findings.evidence) > 0
    free = {probe.name for probe in all_probes() if probe.cost_class is CostClass.STORED}
    assert sum(row.cost.token_count for row in findings.evidence if row.probe in free) == 0


def test_work_is_given_back_between_probes() -> None:
    def stop() -> None:
        raise Interrupted("stopped")

    model = ToyModel(answers=wrong_on("green"))
    with pytest.raises(Interrupted):
        investigate(case_of(model), all_probes(), is_clear=lambda rows: False, clock=lambda: 0.0, before_probe=stop)
    assert not model.prompts
