"""Do failed prompts become right when they are written as the corpus writes? Undoes wrappers, case and spacing.

A prompt that lacks meaning, not form, stays wrong: taking words away from it gives another question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.diagnostician.adapters.probes.counterfactual import (
    NO_MODEL,
    both,
    cannot,
    passing,
    rescued_ids,
    right_ids,
    shares,
)
from mendloop.diagnostician.domain.case import Case, Observation
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.writing import Wrapper, Writing, common_wrapper, respelt, writing_of
from mendloop.models.generation import LanguageModel

NAME = "reformat"
RESCUED = "rescued_share"
BROKEN = "passing_broken_share"


@dataclass(frozen=True, slots=True)
class Repair:
    """One way to write prompts as the corpus does."""

    writing: Writing
    wrapper: Wrapper
    respells: bool

    def prompt(self, text: str) -> str:
        """The prompt, repaired; unchanged where nothing is to be repaired."""
        words = respelt(self.writing, text) if self.respells else tuple(text.split())
        return " ".join(self.wrapper.stripped(words))


class Reformat:
    """Tries to unwrap, to respell and both; reports what rescues most, and whether it breaks passing items."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failed items rescued by the best repair, and of passing items that it breaks."""
        if case.model is None or not case.corpus:
            why = NO_MODEL if case.model is None else "There is no training corpus whose format could be taken."
            return cannot(case, NAME, (RESCUED, BROKEN), why)
        tried = tried_repairs(case, case.model)
        if not tried:
            words = "become right: nothing in their prompts is written otherwise than in the corpus."
            return tuple(shares(case, NAME, RESCUED, (), words))
        best, rescued = max(tried, key=lambda pair: len(pair[1]))
        words = f"become right {_words(best, both(case))}."
        broken = _broken(case, case.model, best)
        return (
            *shares(case, NAME, RESCUED, rescued, words),
            *shares(case, NAME, BROKEN, broken, "break when they are rewritten the same way.", group=passing),
        )


def tried_repairs(case: Case, model: LanguageModel) -> list[tuple[Repair, set[str]]]:
    """Each repair that changes a failed prompt, with the ids of the items that it rescues."""
    rows = both(case)
    return [(repair, _rescued(case, model, rows, repair)) for repair in _repairs(case, rows)]


def _repairs(case: Case, rows: Sequence[Observation]) -> list[Repair]:
    """Repairs that change at least one failed prompt, each another way."""
    writing = writing_of(row.prompt for row in case.corpus)
    prompts = [row.item.prompt for row in rows]
    plain = common_wrapper(writing, [tuple(text.split()) for text in prompts])
    spelt = common_wrapper(writing, [respelt(writing, text) for text in prompts])
    candidates = [
        Repair(writing, plain, respells=False),
        Repair(writing, Wrapper(), respells=True),
        Repair(writing, spelt, respells=True),
    ]
    distinct: dict[tuple[str, ...], Repair] = {}
    for repair in candidates:
        distinct.setdefault(tuple(repair.prompt(text) for text in prompts), repair)
    return [repair for texts, repair in distinct.items() if texts != tuple(prompts)]


def _rescued(case: Case, model: LanguageModel, rows: Sequence[Observation], repair: Repair) -> set[str]:
    changed = [row for row in rows if repair.prompt(row.item.prompt) != row.item.prompt]
    return rescued_ids(case, model, changed, [case.template(repair.prompt(row.item.prompt)) for row in changed])


def _broken(case: Case, model: LanguageModel, repair: Repair) -> set[str]:
    rows = both(case, passing)
    changed = [row for row in rows if repair.prompt(row.item.prompt) != row.item.prompt]
    right = right_ids(case, model, changed, [case.template(repair.prompt(row.item.prompt)) for row in changed])
    return {row.item.item_id for row in changed} - right


def _words(repair: Repair, rows: Sequence[Observation]) -> str:
    """What the repair does, with the commonest examples."""
    parts = []
    for place, words in (("before", repair.wrapper.prefix), ("after", repair.wrapper.suffix)):
        if words:
            parts.append(f"without {' '.join(words)!r} {place} the prompt")
    changes = _changes(repair, rows) if repair.respells else []
    if changes:
        parts.append("with words as in the corpus (" + ", ".join(changes) + ")")
    return " and ".join(parts) or "with single spaces"


def _changes(repair: Repair, rows: Sequence[Observation]) -> list[str]:
    """Up to three commonest respellings of words; a whole prompt where its words were found only together."""
    tally: Counter[str] = Counter()
    for row in rows:
        words = tuple(row.item.prompt.split())
        pieces = [respelt(repair.writing, word) for word in words]
        together = respelt(repair.writing, row.item.prompt)
        if tuple(piece for own in pieces for piece in own) != together:
            tally[f"{row.item.prompt!r} as {' '.join(together)!r}"] += 1
            continue
        changed = {word: spelt for word, spelt in zip(words, pieces, strict=True) if spelt != (word,)}
        tally.update(f"{word!r} as {' '.join(spelt)!r}" for word, spelt in changed.items())
    return [change for change, _ in tally.most_common(3)]
