"""Seeds of the corpus in other words, as the task family says them; the answer stays. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.funnel import GARBAGE_ERRORS
from mendloop.data_generator.domain.lesson import Seeds
from mendloop.data_generator.ports import Rejected

UNREADABLE = "a seed that the task family cannot read"


class RewordingSource:
    """Every wording of every seed; whether it is right and in the slice, the funnel says."""

    def __init__(
        self,
        rewordings: Callable[[str], Sequence[str]],
        *,
        task_name: str,
        seeds: Callable[[Conditions, int], Seeds],
    ) -> None:
        self._rewordings, self._name, self._seeds = rewordings, f"rewording:{task_name}", seeds

    @property
    def name(self) -> str:
        """rewording:TASK."""
        return self._name

    @property
    def is_curriculum(self) -> bool:
        """Seeds are in random order: the selection chooses."""
        return False

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example | Rejected]:
        """The seeds with most of the slice's values first."""
        for row in self._seeds(conditions, seed).examples:
            try:
                wordings = self._rewordings(row.prompt)
            except GARBAGE_ERRORS:
                yield Rejected(UNREADABLE)
                continue
            for wording in wordings:
                yield Example(wording, row.completion, self._name)
