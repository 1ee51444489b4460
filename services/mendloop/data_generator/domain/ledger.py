"""The ledger of a batch: every drop by stage and reason, and every limit that cut the work short."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

CORPUS = "corpus"
"""Rows of the corpus itself that a batch repairs or removes: no candidates."""
SOURCE = "source"
TEACHER = "teacher"
"""What a language model said where an example was wanted, and is none."""
VERIFICATION = "verification"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near-duplicate"
DECONTAMINATION = "decontamination"
SLICE = "slice"
STUDENT = "student"
"""How often the checkpoint that failed solves a candidate."""
SELECTION = "selection"
BUDGET = "budget"
STAGES = (
    CORPUS,
    SOURCE,
    TEACHER,
    VERIFICATION,
    DUPLICATE,
    NEAR_DUPLICATE,
    DECONTAMINATION,
    SLICE,
    STUDENT,
    SELECTION,
    BUDGET,
)
"""Stages in the order in which a candidate meets them."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Why candidates were dropped, or (count 0) why there are fewer of them than asked for."""

    stage: str
    reason: str
    count: int


class Ledger:
    """Counts drops; a note is a line that drops nothing itself."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def drop(self, stage: str, reason: str, *, count: int = 1) -> None:
        """Count dropped candidates."""
        assert stage in STAGES, f"unknown stage {stage!r}"
        self._counts[stage, reason] += count

    def note(self, stage: str, reason: str) -> None:
        """Say why the work ended early."""
        self.drop(stage, reason, count=0)

    def rows(self) -> tuple[Drop, ...]:
        """Every line, in the order of the stages, the largest count first."""
        lines = [Drop(stage, reason, count) for (stage, reason), count in self._counts.items()]
        return tuple(sorted(lines, key=lambda row: (STAGES.index(row.stage), -row.count, row.reason)))

    def count_by_stage(self) -> dict[str, int]:
        """Dropped candidates of each stage that dropped any."""
        totals: Counter[str] = Counter()
        for row in self.rows():
            totals[row.stage] += row.count
        return {stage: count for stage, count in totals.items() if count}
