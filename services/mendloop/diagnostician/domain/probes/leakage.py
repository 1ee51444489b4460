"""Do evaluation prompts stand in the training corpus, and are they the ones that are right? Asks no model.

A prompt is leaked where one corpus example has it word for word, or holds all of its word 8-grams. Case and white space
do not count. Words in other order, or a translation, are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mendloop.core.records import Example, Outcome
from mendloop.core.stats import clopper_pearson
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.evidence import Evidence, measured, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import Estimate, difference, estimate

NAME = "leakage"
FAILED = "leaked_failed"
PASSING = "leaked_passing"
GAP = "fresh_gap"
GRAM = 8

Words = tuple[str, ...]


class Leakage:
    """Searches the corpus for every evaluation prompt of the slice; those that fail are the control."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failed and of passing items of the slice that are leaked, and the accuracy gap."""
        if not case.corpus:
            why = "There is no training corpus to search."
            rows = [(row, sample.name) for sample in case.samples for row in (FAILED, PASSING, GAP)]
            return tuple(missing(NAME, row, reading=why, sample=name) for row, name in rows)
        inside = {sample.name: _inside(case, sample) for sample in case.samples}
        asked = {_words(row.prompt) for rows in inside.values() for row in rows}
        leaked = leaked_prompts(asked, case.corpus)
        return tuple(row for name, rows in inside.items() for row in _rows(name, rows, leaked))


def leaked_prompts(asked: Iterable[Words], corpus: Iterable[Example]) -> set[Words]:
    """Those of the asked prompts, as lower-case words, that stand in one example each."""
    wanted = set(asked)
    by_gram: dict[Words, list[Words]] = {}
    for words in wanted:
        if len(words) >= GRAM:
            by_gram.setdefault(words[:GRAM], []).append(words)
    found: set[Words] = set()
    for row in corpus:
        prompt = _words(row.prompt)
        if prompt in wanted:
            found.add(prompt)
        if by_gram:
            grams = set(_grams((*prompt, *_words(row.completion))))
            starts = (words for gram in grams & by_gram.keys() for words in by_gram[gram])
            found |= {words for words in starts if grams.issuperset(_grams(words))}
    return found


def _words(text: str) -> Words:
    return tuple(text.lower().split())


def _grams(words: Words) -> Iterator[Words]:
    return (words[at : at + GRAM] for at in range(len(words) - GRAM + 1))


def _inside(case: Case, sample: Sample) -> list[Outcome]:
    return [row for row in sample.outcomes if matches(row.axes, case.conditions)]


def _rows(name: str, rows: Sequence[Outcome], leaked: set[Words]) -> Iterator[Evidence]:
    for measurement, is_right, words in ((FAILED, False, "failed"), (PASSING, True, "right")):
        own = [row for row in rows if row.is_correct == is_right]
        hits = [row for row in own if _words(row.prompt) in leaked]
        example = f", e.g. {hits[0].prompt!r}" if hits else ""
        reading = f"{len(hits)} of {len(own)} {words} items of the slice stand in the training corpus{example}."
        if not own:
            reading = f"No item of the slice is {words}."
        yield share(NAME, measurement, len(hits), len(own), sample=name, reading=reading)
    yield _gap(name, rows, leaked)


def _gap(name: str, rows: Sequence[Outcome], leaked: set[Words]) -> Evidence:
    """Accuracy of leaked items minus that of fresh ones, with the interval of a difference."""
    known = [row for row in rows if _words(row.prompt) in leaked]
    fresh = [row for row in rows if _words(row.prompt) not in leaked]
    if not known or not fresh:
        reading = f"{len(known)} items of the slice are leaked and {len(fresh)} are not: there is no contrast."
        return missing(NAME, GAP, sample=name, reading=reading)
    gap = difference(_accuracy(known), _accuracy(fresh))
    reading = (
        f"The model gets {_right(known)} of {len(known)} leaked items of the slice right "
        f"and {_right(fresh)} of {len(fresh)} that are not leaked."
    )
    return measured(NAME, GAP, gap, len(rows), sample=name, reading=reading)


def _right(rows: Sequence[Outcome]) -> int:
    return sum(row.is_correct for row in rows)


def _accuracy(rows: Sequence[Outcome]) -> Estimate:
    right = _right(rows)
    return estimate(right / len(rows), clopper_pearson(right, len(rows)))
