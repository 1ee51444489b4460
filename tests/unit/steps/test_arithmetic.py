"""Steps with arithmetic: what is wrong is said, what cannot be read is unknown, what is right is not accused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendloop.steps.arithmetic import ArithmeticChecker, check_step, evaluate
from mendloop.steps.supervision import Step, supervise

GSM8K = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "test.jsonl"


def _verdict(text: str) -> tuple[str, str, str]:
    found = check_step(Step(0, text))
    return found.status, found.operation, found.reason.partition(":")[0]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("She makes 9 * 2 = $<<9*2=18>>18 a day.", ("right", "multiplication", "")),
        ("She makes 9 * 2 = $<<9*2=19>>19 a day.", ("wrong", "multiplication", "sum")),
        ("So 130,000*.15 = $<<130000*.15=19500.0>>195,000", ("wrong", "multiplication", "copy")),
        ("He has 3 - 7 = <<3-7=-4>>4 more", ("wrong", "subtraction", "sign")),
        ("That is 16 - 3 - 4 = <<16-3-4=9>>9", ("right", "subtraction", "")),
        ("Then 2 x 3 + 1 = 7", ("right", "mixed", "")),
        ("Then 10 / 4 = 3.5", ("wrong", "division", "sum")),
        ("That is 140/60=<<140/60=2.3333333333333335>>2 minutes", ("right", "division", "")),
        ("Paul wants 12 kg * 1/3 = <<12*1/3=4.0>>4 kg", ("right", "mixed", "")),
        ("$350 000 x 5/100 = $<<350000*5/100=17500.0>>17 500", ("right", "mixed", "")),
        ("3x + 20 + 10 = 45", ("unknown", "", "")),
        ("b = 20 * 5 - 4 = 100 - 4 = 96", ("unknown", "", "")),
        ("He is 3 years old.", ("unknown", "", "")),
        ("<<5/0=0>>", ("unknown", "", "")),
        ("<<" + "1+" * 500 + "1=501>>501", ("unknown", "", "")),
        ("<<2**99999999=1>>1", ("unknown", "", "")),
    ],
)
def test_a_step_is_judged_by_its_arithmetic(text: str, verdict: tuple[str, str, str]) -> None:
    assert _verdict(text) == verdict


@given(st.integers(-999, 999), st.integers(1, 999), st.sampled_from("+-*/"))
def test_sums_are_exact(first: int, second: int, sign: str) -> None:
    found = evaluate(f"{first}{sign}{second}")

    exact = {"+": first + second, "-": first - second, "*": first * second, "/": Fraction(first, second)}
    assert found is not None
    assert found.value == exact[sign]


def test_the_first_wrong_step_is_the_first_of_several() -> None:
    output = "It is <<1+1=2>>2.\n\nThen <<2*3=7>>7.\nAnd <<7-1=5>>5.\nA: 5"

    found = supervise("", output, checkers=[ArithmeticChecker()])

    assert found.first_wrong is not None
    assert (found.first_wrong_index, found.first_wrong.operation) == (1, "multiplication")
    assert (len(found.verdicts), found.unknown_count) == (4, 1)


@pytest.mark.skipif(not GSM8K.is_file(), reason="GSM8K is not beside the repository (shared/data/gsm8k)")
def test_the_reference_solutions_of_gsm8k_are_hardly_ever_accused() -> None:
    answers = [json.loads(line)["answer"] for line in GSM8K.read_text().splitlines()]

    accused = [a for a in answers if supervise("", a, checkers=[ArithmeticChecker()]).first_wrong is not None]

    assert len(answers) == 1319
    assert len(accused) / len(answers) < 0.02
