"""Owns steps and verdicts on them, and what the first wrong step of an output is. Knows no way of checking."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Status = Literal["right", "wrong", "unknown"]
_BLANK = re.compile(r"\s*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9$])")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an output; index counts from 0."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """What a checker says of one step. operation is empty where the checker sees none; reason says why it is wrong."""

    step: Step
    status: Status
    operation: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status == "wrong" and not self.reason:
            raise ValueError(f"step {self.step.index} is wrong without a reason: {self.step.text!r}")


@dataclass(frozen=True, slots=True)
class Supervision:
    """The verdicts on an output and the first wrong step; None where no checker sees a wrong one."""

    verdicts: tuple[StepVerdict, ...]
    first_wrong: StepVerdict | None

    @property
    def first_wrong_index(self) -> int:
        """Index of the first wrong step; -1 where none is seen."""
        return self.first_wrong.step.index if self.first_wrong else -1

    @property
    def unknown_count(self) -> int:
        """Steps that no checker could judge."""
        return sum(verdict.status == "unknown" for verdict in self.verdicts)


class StepChecker(Protocol):
    """Judges the steps of an output, by program or by model."""

    def check(self, prompt: str, output: str) -> list[StepVerdict]:
        """One verdict for each step, in order."""


class ProcessRewardModel(Protocol):
    """A model that gives each step a reward: the probability that it is right (Lightman et al. 2023, 2305.20050)."""

    def rewards(self, prompt: str, steps: Sequence[str]) -> list[float]:
        """One probability for each step."""


def lines(output: str) -> list[Step]:
    """A step a line; empty lines are none."""
    return _numbered(_BLANK.split(output))


def sentences(output: str) -> list[Step]:
    """A step a sentence or line: a sentence ends with . ! or ? before a capital, a digit or a dollar sign."""
    return _numbered([part for line in _BLANK.split(output) for part in _SENTENCE.split(line)])


def supervise(prompt: str, output: str, *, checkers: Sequence[StepChecker]) -> Supervision:
    """The verdicts of the first checker, completed by the later ones where it does not know.

    Raises ValueError where the checkers cut the output into different numbers of steps.
    """
    if not checkers:
        raise ValueError("supervise needs at least one checker")
    merged, *others = [checker.check(prompt, output) for checker in checkers]
    for verdicts in others:
        if len(verdicts) != len(merged):
            raise ValueError(f"the checkers see {len(merged)} and {len(verdicts)} steps in one output")
        merged = [own if own.status != "unknown" else other for own, other in zip(merged, verdicts, strict=True)]
    wrong = next((verdict for verdict in merged if verdict.status == "wrong"), None)
    return Supervision(tuple(merged), wrong)


@dataclass(frozen=True, slots=True)
class RewardChecker:
    """A process-reward model as a checker: a step below the threshold is wrong, every other right."""

    model: ProcessRewardModel
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"the threshold is {self.threshold}; it must lie between 0 and 1")

    def check(self, prompt: str, output: str) -> list[StepVerdict]:
        """Raises ValueError where the model gives a number of rewards that is not the number of steps, or no number."""
        steps = lines(output)
        rewards = self.model.rewards(prompt, [step.text for step in steps])
        if len(rewards) != len(steps) or any(math.isnan(reward) for reward in rewards):
            raise ValueError(f"the reward model gave {rewards} for {len(steps)} steps; one probability each is needed")
        return [
            StepVerdict(step, "wrong", reason=f"reward {reward:.3f} is below {self.threshold}")
            if reward < self.threshold
            else StepVerdict(step, "right")
            for step, reward in zip(steps, rewards, strict=True)
        ]


def _numbered(texts: Sequence[str]) -> list[Step]:
    return [Step(index, text.strip()) for index, text in enumerate(filter(str.strip, texts))]
