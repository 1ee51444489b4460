"""What is kept of control arms: how each ended, by how much the main arm differs, and why one failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ArmState(StrEnum):
    """How a control arm ended; the names of mendloop.v1.ArmResult in lower case."""

    COMPARED = "compared"
    FAILED = "failed"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """A control arm that is over."""

    round: int
    arm: str
    plan_id: str
    """Empty where it was left out."""
    state: ArmState
    reason: str
    """The targets' figures, or why there are none."""
    checkpoint: str
    """SHA-256 of its candidate's manifest; empty where there is none."""
    decided_at: float


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """The main arm against a control on one slice; position 0 has all items, then come the targets."""

    round: int
    arm: str
    position: int
    conditions: tuple[tuple[str, str], ...]
    n: int
    only_main: int
    only_control: int
    both: int
    low: float
    high: float
    """Ends of the 95 % interval of main - control."""
    p_value: float
    """Two-sided, exact, uncorrected."""

    @property
    def main(self) -> float:
        """Accuracy of the main arm's candidate; 0 where nothing was measured."""
        return (self.both + self.only_main) / self.n if self.n else 0.0

    @property
    def control(self) -> float:
        """Accuracy of the control's candidate; 0 where nothing was measured."""
        return (self.both + self.only_control) / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class ArmFailure:
    """A service could not do a control's work: that ends the arm, never the run."""

    round: int
    arm: str
    handler: str
    """The service."""
    reason: str
