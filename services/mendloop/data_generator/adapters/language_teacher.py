"""A language model as a source: it varies or rewrites seeds of the corpus. Knows requests and replies, not HTTP."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mendloop.axes.annotate import CLUSTER
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.adapters.correspondence import Correspondence, Letter
from mendloop.data_generator.domain.lesson import Read, Seeds, read_pairs, rewriting_request, writing_request
from mendloop.data_generator.ports import Rejected, SourceGaveUp
from mendloop.models.chat import Said

SILENT = "no reply from the teacher in time"


@dataclass(frozen=True, slots=True)
class Habits:
    """How a teacher works."""

    shots: int
    variants_per_seed: int
    tries_per_seed: int
    concurrency: int
    fruitless_limit: int


class LanguageTeacher:
    """Few variants of each seed, in waves of 1, 2, 4 ... requests: a bad teacher is found out cheaply."""

    def __init__(
        self,
        correspondence: Correspondence,
        *,
        name: str,
        habits: Habits,
        seeds: Callable[[Conditions, int], Seeds],
        rewrites: bool = False,
    ) -> None:
        self._correspondence, self._name, self._habits = correspondence, name, habits
        self._seeds, self._rewrites = seeds, rewrites

    @property
    def name(self) -> str:
        """teacher:MODEL, or rewriter:MODEL."""
        return self._name

    @property
    def is_curriculum(self) -> bool:
        """The first that pass are taken, so that no more is asked for than is needed."""
        return True

    @property
    def fruitless_limit(self) -> int:
        """Dropped candidates in a row after which it is left."""
        return self._habits.fruitless_limit

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example | Rejected]:
        """What it writes, seed by seed. Raises SourceGaveUp without seeds, and where the teacher does not go on."""
        seeds = self._seeds(conditions, seed)
        if not seeds.examples:
            raise SourceGaveUp(
                f"{self._name} makes examples from those of the corpus, and none of them has any value of the slice"
            )
        told = [(axis, value) for axis, value in conditions if axis != CLUSTER]  # its nodes have no words
        draws = random.Random(seed)
        waiting = [(at, 1) for at in range(len(seeds.examples))]
        size = 1
        while waiting:
            wave, waiting = waiting[:size], waiting[size:]
            size = min(2 * size, self._habits.concurrency)
            letters = [self._letter(seeds, at, told, draws.getrandbits(31)) for at, _ in wave]
            again = []
            for (at, tries), said in zip(wave, self._correspondence.replies(letters), strict=True):
                read = Read((), (SILENT,)) if said is None else self._read(said, seeds.examples[at])
                yield from (Example(prompt, answer, self._name) for prompt, answer in read.pairs)
                yield from (Rejected(objection) for objection in read.objections)
                if not read.pairs and tries < self._habits.tries_per_seed:
                    again.append((at, tries + 1))
            waiting = again + waiting

    def _letter(self, seeds: Seeds, at: int, conditions: Conditions, draw: int) -> Letter:
        count = self._habits.variants_per_seed
        if self._rewrites:
            return Letter(rewriting_request(seeds.examples[at], conditions, count=count), draw)
        return Letter(writing_request(seeds.around(at, count=self._habits.shots), conditions, count=count), draw)

    def _read(self, said: Said, seed: Example) -> Read:
        kept = seed.completion if self._rewrites else ""
        return read_pairs(said.text, most=self._habits.variants_per_seed, is_cut=said.is_cut, completion=kept)
