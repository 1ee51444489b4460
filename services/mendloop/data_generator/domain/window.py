"""The student's pass rate: a candidate teaches most where the student solves it sometimes. Pure.

After SwS (github.com/MasterVito/SwS), which keeps problems with a rate of 1/8 to 7/8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mendloop.core.records import Example
from mendloop.data_generator.domain.ledger import STUDENT


@dataclass(frozen=True, slots=True)
class PassRateWindow:
    """A Check. answers draws outputs of the student to a prompt; is_right compares one with the example."""

    low: float
    high: float
    answers: Callable[[str], Sequence[str]]
    is_right: Callable[[Example, str], bool]

    @property
    def stage(self) -> str:
        """The student's own."""
        return STUDENT

    def objection(self, example: Example) -> str:
        """Empty where the pass rate lies in the window, its ends included."""
        said = self.answers(example.prompt)
        rate = sum(self.is_right(example, output) for output in said) / len(said)
        if rate < self.low:
            return f"the student solves it too seldom (pass rate below {self.low:g} in {len(said)} draws)"
        if rate > self.high:
            return f"the student solves it already (pass rate above {self.high:g} in {len(said)} draws)"
        return ""
