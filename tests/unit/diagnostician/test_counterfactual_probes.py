"""Probes that change one thing and ask again: wording, start checkpoint, given steps, random draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from diagnosis_cases import ToyModel, ToyTask, all_items, answer_of, case_of, wrong_on
from probe_models import CONFUSED, Continuing, rows_of, values

from mendloop.core.records import Item, Score
from mendloop.diagnostician.adapters.probes.earlier_checkpoint import EarlierCheckpoint
from mendloop.diagnostician.adapters.probes.first_steps import FirstSteps, begins_with, given_text
from mendloop.diagnostician.adapters.probes.open_book import OpenBook
from mendloop.diagnostician.adapters.probes.paraphrase import Paraphrase
from mendloop.diagnostician.adapters.probes.pass_at_k import PassAtK
from mendloop.diagnostician.adapters.probes.reformat import Reformat
from mendloop.diagnostician.adapters.probes.target_agreement import TargetAgreement
from mendloop.diagnostician.domain.probing import Probe
from mendloop.models.generation import TokenLogprobs


class _Reworded(ToyTask):
    """Says "take" as "grab" and the other way round."""

    def rewordings(self, prompt: str) -> Sequence[str]:
        first, rest = prompt.split(" ", 1)
        return [f"{'take' if first == 'grab' else 'grab'} {rest}"]


class _Stepped(ToyTask):
    def worked_steps(self, item: Item) -> Sequence[str]:
        first, second, third = item.target.split()
        return (f"{first} ", second, f" {third}")


def _items(*, worded: str) -> list[Item]:
    """All items; those of the slice are worded otherwise than the corpus."""
    return [
        replace(row, prompt=row.prompt.replace("take", worded)) if row.axes["colour"] == ("green",) else row
        for row in all_items()
    ]


def _takes_only(prompt: str) -> str:
    return answer_of(prompt) if prompt.startswith("take") else CONFUSED


def test_a_usual_wording_that_rescues_is_named() -> None:
    case = case_of(ToyModel(answers=_takes_only), task=_Reworded(), items=_items(worded="grab"))
    assert values(Paraphrase(), case, "rescued_share") == [1]
    assert "other wording ('grab' as 'take')" in rows_of(Paraphrase(), case)["rescued_share", "b"].reading
    assert values(Reformat(), case, "rescued_share") == [0], "another word is no format"


def test_a_model_that_breaks_on_any_rewording_shows_in_the_control() -> None:
    model = ToyModel(answers=lambda prompt: wrong_on("green")(prompt) if prompt.startswith("take") else CONFUSED)
    case = case_of(model, task=_Reworded())
    assert values(Paraphrase(), case, "rescued_share", "passing_broken_share") == [0, 1]


def test_a_wrapper_that_a_rewording_drops_is_no_wording() -> None:
    class _Unwrapping(ToyTask):
        def rewordings(self, prompt: str) -> Sequence[str]:
            return [prompt.removeprefix("please ")]

    items = [replace(row, prompt=f"please {row.prompt}") for row in all_items()]
    case = case_of(ToyModel(answers=_takes_only), task=_Unwrapping(), items=items)
    assert values(Reformat(), case, "rescued_share") == [1]
    assert values(Paraphrase(), case, "rescued_share") == [0]


def test_missing_data_is_no_wording() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), task=_Reworded())
    assert values(Paraphrase(), case, "rescued_share", "passing_broken_share") == [0, 0]


def test_the_start_checkpoint_shows_what_was_forgotten() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    names = ("right_share", "passing_right_share")
    assert values(EarlierCheckpoint(), replace(case, earlier=ToyModel()), *names) == [1, 1]
    assert values(EarlierCheckpoint(), replace(case, earlier=ToyModel(wrong_on("green"))), *names) == [0, 1]


@pytest.mark.parametrize("probe", [EarlierCheckpoint(), PassAtK()], ids=lambda one: one.name)
def test_what_only_the_scorer_refuses_was_neither_lost_nor_found(probe: Probe) -> None:
    class _Deaf(ToyTask):
        def score(self, item: Item, output: str) -> Score:
            return Score(0.0, "none")

    case = replace(case_of(Continuing(), task=_Deaf()), earlier=ToyModel())
    assert {row.value for row in probe.run(case) if row.measurement != "passing_right_share"} == {0}


def _continues(*, chains: bool) -> Continuing:
    """Wrong on its own on green; from given steps it goes on with the last one, or starts again."""

    def rest(prompt: str, given: str) -> str:
        if not given:
            return answer_of(prompt).replace("green", "blue")
        return "done" if chains else CONFUSED

    return Continuing(continues=rest)


def test_given_steps_rescue_a_model_that_only_chains_badly() -> None:
    case = case_of(_continues(chains=True), task=_Stepped())
    assert values(FirstSteps(), case, "rescued_share", "first_step_right_share") == [1, 1]
    assert "step 2 of 3 (green) (20)" in rows_of(FirstSteps(), case)["first_step_right_share", "a"].reading


def test_given_steps_do_not_help_a_model_that_cannot_go_on() -> None:
    assert values(FirstSteps(), case_of(_continues(chains=False), task=_Stepped()), "rescued_share") == [0]


def test_each_step_is_asked_for_after_the_right_ones_before_it() -> None:
    class _NoColour(Continuing):
        def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
            self.prompts += prompts
            return [TokenLogprobs((-0.1,), -0.1, is_greedy=text != "green") for text in completions]

    model = _NoColour(continues=lambda prompt, given: CONFUSED)
    case = case_of(model, task=_Stepped())
    rows = rows_of(FirstSteps(), case)
    assert rows["step_right_share", "a"].value == pytest.approx(2 / 3)
    assert "not, for example, 'green'" in rows["step_right_share", "a"].reading
    assert any(text.endswith("A: thing1 green") for text in model.prompts)
    assert rows_of(FirstSteps(), case_of(_continues(chains=True), task=_Stepped()))["step_right_share", "a"].n == 0


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(("1 ", "2 ", "3"), "1 2 "), (("1", " 2", " 3"), "1 2 "), (("1;", "2;", "3"), "1;2;"), (("a\n", "b"), "a\n")],
)
def test_given_steps_end_with_what_parts_them_from_the_last(steps: Sequence[str], expected: str) -> None:
    assert given_text(steps) == expected


def test_a_step_is_said_as_a_whole_or_not_at_all() -> None:
    assert begins_with("1 + 2 = 3 ; 4", "1 + 2 = 3 ;")
    assert not begins_with("12 + 2", "1")
    assert not begins_with("12", "")


def test_draws_find_an_answer_that_greedy_decoding_misses() -> None:
    def draw(prompt: str, seed: int) -> str:
        return answer_of(prompt) if seed % 4 == 0 else CONFUSED

    sometimes = Continuing(continues=lambda prompt, given: CONFUSED, draws=draw)
    never = Continuing(continues=lambda prompt, given: CONFUSED, draws=lambda prompt, seed: CONFUSED)
    names = ("any_right_share", "mean_right_share")
    assert values(PassAtK(), case_of(sometimes), *names) == [1, 0.25]
    assert values(PassAtK(), case_of(never), *names) == [0, 0]


@pytest.mark.parametrize(
    "probe", [Paraphrase(), EarlierCheckpoint(), FirstSteps(), PassAtK()], ids=lambda one: one.name
)
def test_a_probe_whose_hook_or_model_is_absent_says_so(probe: Probe) -> None:
    rows = probe.run(case_of(ToyModel(answers=wrong_on("green"))))
    assert {row.n for row in rows} == {0}
    assert all(row.reading.endswith(".") for row in rows)
    assert {row.sample for row in rows} == {"a", "b"}


class _Documented(ToyTask):
    """Knows what "paint" needs: the colour's name in a reference."""

    def background(self, item: Item) -> str:
        return f"note {item.prompt.split()[1]} ;"


def _reads(*, looks: bool) -> ToyModel:
    """Right on green where the reference before the prompt names the same thing, or any."""

    def answer(prompt: str) -> str:
        note, _, rest = prompt.rpartition("; ")
        is_known = note.split()[1:2] == rest.split()[1:2] if looks else bool(note)
        return answer_of(rest) if is_known else wrong_on("green")(rest)

    return ToyModel(answers=answer)


def test_a_reference_that_is_read_rescues_and_another_items_does_not() -> None:
    names = ("reference_rescued_share", "mismatched_rescued_share")
    assert values(OpenBook(), case_of(_reads(looks=True), task=_Documented()), *names) == [1, 0]
    assert values(OpenBook(), case_of(_reads(looks=False), task=_Documented()), *names) == [1, 1]
    rows = rows_of(OpenBook(), case_of(_reads(looks=True)))
    assert rows["reference_rescued_share", "a"].n == 0


def _wrong_targets() -> list[Item]:
    wrong = wrong_on("green")
    return [replace(row, target=wrong(row.prompt)) for row in all_items()]


def test_solvers_that_agree_against_a_target_are_counted() -> None:
    sure = Continuing(continues=lambda prompt, given: answer_of(prompt))
    unsure = Continuing(
        continues=lambda prompt, given: answer_of(prompt),
        draws=lambda prompt, seed: answer_of(prompt) if seed % 3 else CONFUSED,
    )
    for model, expected in ((sure, 1), (unsure, 0)):
        case = replace(case_of(model, items=_wrong_targets()), earlier=ToyModel())
        assert values(TargetAgreement(), case, "agreed_other_share") == [expected]
    alone = replace(case_of(sure, items=_wrong_targets()), earlier=ToyModel(wrong_on("green")))
    assert values(TargetAgreement(), alone, "agreed_other_share") == [0]
    assert {row.n for row in TargetAgreement().run(case_of(sure, items=_wrong_targets()))} == {0}
