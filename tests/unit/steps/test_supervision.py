"""Steps are cut, checkers complete one another, a reward model is a checker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mendloop.examples.scan.grammar import commands, interpret
from mendloop.steps.arithmetic import ArithmeticChecker
from mendloop.steps.scan import ScanChecker, operations
from mendloop.steps.supervision import RewardChecker, Step, StepVerdict, lines, sentences, supervise


@dataclass(frozen=True)
class Rewards:
    """A reward model that gives what it was told to."""

    values: tuple[float, ...]

    def rewards(self, prompt: str, steps: Sequence[str]) -> list[float]:
        return list(self.values)


def test_lines_and_sentences_are_numbered_and_never_empty() -> None:
    text = "First, 1.5 apples. Then two.\n\n  So 3!  "

    assert [step.text for step in lines(text)] == ["First, 1.5 apples. Then two.", "So 3!"]
    assert [step.text for step in sentences(text)] == ["First, 1.5 apples.", "Then two.", "So 3!"]
    assert [step.index for step in sentences(text)] == [0, 1, 2]
    assert lines("") == []


def test_a_reward_model_judges_what_the_program_cannot() -> None:
    output = "It is <<1+1=2>>2.\nSo she is sad.\nThen <<2*3=6>>6."

    found = supervise("", output, checkers=[ArithmeticChecker(), RewardChecker(Rewards((0.1, 0.2, 0.1)))])

    assert [verdict.status for verdict in found.verdicts] == ["right", "wrong", "right"]
    assert found.first_wrong is not None
    assert found.first_wrong.reason == "reward 0.200 is below 0.5"


@pytest.mark.parametrize("values", [(0.5,), (math.nan, 0.5)])
def test_a_reward_model_that_gives_no_number_for_a_step_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one probability each"):
        RewardChecker(Rewards(values)).check("", "a\nb")


def test_a_wrong_step_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="without a reason"):
        StepVerdict(Step(0, "x"), "wrong")


@pytest.mark.parametrize(
    ("command", "output", "at", "operation"),
    [
        (
            "jump around left",
            "I_TURN_LEFT I_JUMP I_TURN_LEFT I_WALK I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP",
            3,
            "around",
        ),
        ("jump twice", "I_JUMP", 1, "twice"),
        ("jump", "I_WALK", 0, "jump"),
        ("walk opposite right", "I_TURN_RIGHT I_WALK", 1, "opposite"),
        ("walk after jump left", "I_WALK I_TURN_LEFT I_JUMP", 0, "left"),
        ("walk", "I_WALK I_WALK", 1, "end"),
    ],
)
def test_the_first_wrong_action_names_the_word_that_asks_for_it(
    command: str, output: str, at: int, operation: str
) -> None:
    found = supervise(command, output, checkers=[ScanChecker()])

    assert found.first_wrong is not None
    assert (found.first_wrong_index, found.first_wrong.operation) == (at, operation)


def test_every_command_has_a_word_for_each_action_and_its_right_actions_pass() -> None:
    for command in commands()[::97]:
        actions = interpret(command)

        assert len(operations(command)) == len(actions.split())
        assert supervise(command, actions, checkers=[ScanChecker()]).first_wrong is None


def test_what_is_no_command_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="not a SCAN command"):
        ScanChecker().check("sing", "I_SING")
