"""What the model loses on its own training examples: EOS against answer tokens and their halves, slice against rest."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mendloop.core.records import Example
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence, measured, missing
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import bootstrap_ratio
from mendloop.models.generation import TokenLogprobs

NAME = "token_loss"
EOS = "eos_nats"
ANSWER = "answer_nats"
SLICE = "slice_answer_nats"
REST = "rest_answer_nats"
FIRST = "first_answer_nats"
LAST = "last_answer_nats"
FEWEST = 5
"""Fewer examples give no interval worth reading."""
MOST_NATS = 100.0
"""A token of probability zero has an infinite loss; means need a finite one (e^-100 is zero for every purpose)."""


class TokenLoss:
    """Teacher-forced loss on two samples of distinct training examples: from anywhere, and from the slice."""

    name = NAME
    cost_class = CostClass.SCORED

    def __init__(self, *, size: int = 64) -> None:
        self._size = size

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Mean nats per token with bootstrap intervals over examples."""
        anywhere = training_sample(case, size=self._size)
        if case.model is None or len(anywhere) < FEWEST:
            why = "There is no model to score with." if case.model is None else _few(anywhere)
            return tuple(missing(NAME, row, reading=why) for row in (EOS, ANSWER, SLICE, REST, FIRST, LAST))
        inside = training_sample(case, size=self._size // 2, in_slice=True)
        outside = training_sample(case, size=self._size // 2, in_slice=False)
        groups = (anywhere, inside, outside)
        rows = [example for group in groups for example in group]
        scored = iter(
            case.model.logprobs([case.template(row.prompt) for row in rows], [row.completion for row in rows])
        )
        all_scored, in_scored, out_scored = ([next(scored) for _ in group] for group in groups)
        return (
            _eos(all_scored, seed=case.seed),
            _answer(ANSWER, "training examples", all_scored, seed=case.seed),
            _answer(SLICE, "training examples of the slice", in_scored, seed=case.seed),
            _answer(REST, "training examples outside the slice", out_scored, seed=case.seed),
            _answer(FIRST, "training examples, their first halves,", _halves(all_scored, first=True), seed=case.seed),
            _answer(LAST, "training examples, their last halves,", _halves(all_scored, first=False), seed=case.seed),
        )


def training_sample(case: Case, *, size: int, in_slice: bool | None = None) -> list[Example]:
    """Distinct training examples in a seeded order; in_slice None takes them from anywhere."""
    distinct: dict[str, Example] = {}
    for row in case.corpus:
        if in_slice is None or matches(row.axes, case.conditions) == in_slice:
            distinct.setdefault(row.prompt, row)
    rows = list(distinct.values())
    return random.Random(case.seed).sample(rows, min(size, len(rows)))


def _halves(scored: Sequence[TokenLogprobs], *, first: bool) -> list[TokenLogprobs]:
    """The first halves of answers of two tokens or more, or their last halves; a middle token belongs to the first."""
    rows = [(row, (len(row.tokens) + 1) // 2) for row in scored if len(row.tokens) > 1]
    return [replace(row, tokens=row.tokens[:half] if first else row.tokens[half:]) for row, half in rows]


def _few(rows: Sequence[Example]) -> str:
    return f"The corpus has {len(rows)} distinct prompts here; {FEWEST} are needed."


def _losses(logprobs: Sequence[float]) -> Iterator[float]:
    return (min(-value, MOST_NATS) for value in logprobs)


def _eos(scored: Sequence[TokenLogprobs], *, seed: int) -> Evidence:
    value = bootstrap_ratio(list(_losses([row.eos for row in scored])), [1] * len(scored), seed=seed)
    reading = f"Where {len(scored)} training examples end, EOS costs {value.value:.3f} nats."
    return measured(NAME, EOS, value, len(scored), reading=reading)


def _answer(measurement: str, words: str, scored: Sequence[TokenLogprobs], *, seed: int) -> Evidence:
    scored = [row for row in scored if row.tokens]
    if len(scored) < FEWEST:
        return missing(NAME, measurement, reading=f"There are {len(scored)} {words}; {FEWEST} are needed.")
    sums, counts = [sum(_losses(row.tokens)) for row in scored], [len(row.tokens) for row in scored]
    value = bootstrap_ratio(sums, counts, seed=seed)
    reading = f"The answer tokens of {len(scored)} {words} cost {value.value:.3f} nats each."
    return measured(NAME, measurement, value, len(scored), reading=reading)
