"""A teacher as critic: new prompts around a principle, an answer that breaks it, critique, revision. Knows no HTTP."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from mendloop.core.records import Preference
from mendloop.core.task_hooks import Precept
from mendloop.data_generator.adapters.correspondence import Correspondence, Letter
from mendloop.data_generator.domain.lesson import read_completion, read_pairs
from mendloop.data_generator.domain.preferences import (
    breaking_request,
    critique_request,
    revision_request,
    tempting_request,
)
from mendloop.data_generator.ports import Rejected

NO_BREACH, NO_CRITIQUE, NO_REVISION = "no answer that breaks the principle", "no critique", "no revision"
Answers = Callable[[Sequence[str], int], list[str]]
"""(prompts, seed) to one output each."""
SAME = "the revision is the answer that it should revise"


class Critic:
    """Four questions a pair, a few prompts at a time."""

    def __init__(
        self,
        correspondence: Correspondence,
        *,
        name: str,
        prompts_a_time: int,
        fruitless_limit: int,
        answers: Answers | None = None,
    ) -> None:
        """answers: those of the checkpoint that failed; without them the teacher writes the violating ones too."""
        self._correspondence, self._name, self._answers = correspondence, name, answers
        self._prompts_a_time, self._fruitless_limit = prompts_a_time, fruitless_limit

    @property
    def name(self) -> str:
        """critic:MODEL."""
        return self._name

    @property
    def fruitless_limit(self) -> int:
        """Pairs in a row of which none passed, after which it is left."""
        return self._fruitless_limit

    def pairs(self, precept: Precept, *, seed: int) -> Iterator[Preference | Rejected]:
        """Pairs without end: whoever asks stops. Raises SourceGaveUp where the teacher does not go on."""
        draws = random.Random(seed)
        while True:
            asked = tempting_request(precept, count=self._prompts_a_time)
            [said] = self._correspondence.replies([Letter(asked, draws.getrandbits(31))])
            assert said is not None, "replies raises where the only question has none"
            read = read_pairs(said.text, most=self._prompts_a_time, is_cut=said.is_cut, completion="-")
            yield from (Rejected(objection) for objection in read.objections)
            prompts = list(dict.fromkeys(prompt for prompt, _ in read.pairs))
            if prompts:
                yield from self._pairs(precept, prompts, draws)

    def _pairs(self, precept: Precept, prompts: Sequence[str], draws: random.Random) -> Iterator[Preference | Rejected]:
        broken = self._broken(precept, prompts, draws)
        yield from _missing(broken, NO_BREACH)
        answered = [(prompt, output) for prompt, output in zip(prompts, broken, strict=True) if output]
        critiques = self._asked([critique_request(precept, *one) for one in answered], draws, read=str.strip)
        yield from _missing(critiques, NO_CRITIQUE)
        judged = [(*one, words) for one, words in zip(answered, critiques, strict=True) if words]
        revised = self._asked([revision_request(precept, *one) for one in judged], draws, read=read_completion)
        yield from _missing(revised, NO_REVISION)
        for (prompt, output, _), revision in zip(judged, revised, strict=True):
            if revision == output:
                yield Rejected(SAME)
            elif revision:
                yield Preference(prompt, revision, output, self._name, axes=precept.axes)

    def _broken(self, precept: Precept, prompts: Sequence[str], draws: random.Random) -> list[str]:
        if self._answers is not None:
            return [output.strip() for output in self._answers(prompts, draws.getrandbits(31))]
        return self._asked([breaking_request(precept, prompt) for prompt in prompts], draws, read=read_completion)

    def _asked(self, texts: Sequence[str], draws: random.Random, *, read: Callable[[str], str]) -> list[str]:
        """What was said to each question; empty where nothing can be read."""
        if not texts:
            return []
        letters = [Letter(text, draws.getrandbits(31)) for text in texts]
        return ["" if said is None else read(said.text) for said in self._correspondence.replies(letters)]


def _missing(texts: Sequence[str], reason: str) -> Iterator[Rejected]:
    return (Rejected(reason) for text in texts if not text)
