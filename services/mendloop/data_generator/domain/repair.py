"""Repair of a corrupted part of the corpus: wrong labels are replaced by a verified answer, or their rows removed.

Knows examples, a verifier and who answers; knows neither slices' diagnosis nor stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mendloop.core.records import Example, fingerprint
from mendloop.core.tasks import Conditions, matches
from mendloop.data_generator.domain.funnel import GARBAGE_ERRORS
from mendloop.data_generator.domain.ledger import CORPUS, Ledger

REPAIRED = "repaired"
"""Source of an example whose completion was replaced, before its old source."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Who may judge and answer. can_verify: whether the verifier confirmed anything of the corpus at all."""

    verify: Callable[[str, str], bool]
    answer: Callable[[str], str]
    """The right completion of a prompt; empty where nobody knows one. What it says is verified."""
    can_verify: bool


def repaired(
    corpus: Sequence[Example], *, conditions: Conditions, name: str, by: Repair, ledger: Ledger
) -> list[Example]:
    """The corpus with the wrong labels of a slice repaired or gone, in its order; rows outside the slice stay.

    A label is wrong where the verifier refutes it; where no program can tell, where most rows with its prompt say
    otherwise (none of them stays where no label has the most). Every change is counted in the ledger by its reason.
    """
    inside = [row for row in corpus if matches(row.axes, conditions)]
    if not inside:
        ledger.note(CORPUS, f"{name}: no row of the corpus is known to lie in it")
        return list(corpus)
    usual = {} if by.can_verify else _usual(inside)
    kept: list[Example] = []
    for row in corpus:
        objection = _objection(row, by=by, usual=usual) if matches(row.axes, conditions) else ""
        mended = _mended(row, by=by) if objection and by.can_verify else None
        if objection:
            ledger.drop(CORPUS, f"{name}: {objection}, {'answered anew and verified' if mended else 'removed'}")
        if mended or not objection:
            kept.append(mended or row)
    if len(kept) == len(corpus) and all(old is new for old, new in zip(corpus, kept, strict=True)):
        ledger.note(CORPUS, f"{name}: {_what_was_checked(len(inside), by=by)}")
    return kept


def _objection(row: Example, *, by: Repair, usual: dict[str, str]) -> str:
    if not by.can_verify:
        mark = fingerprint(row.prompt)
        return "its prompt stands there with another label" if usual.get(mark, _label(row)) != _label(row) else ""
    try:
        return "" if by.verify(row.prompt, row.completion) else "the verifier refutes its label"
    except GARBAGE_ERRORS:
        return "the verifier cannot read it"


def _mended(row: Example, *, by: Repair) -> Example | None:
    try:
        answer = by.answer(row.prompt)
        is_right = bool(answer) and by.verify(row.prompt, answer)
    except GARBAGE_ERRORS:
        return None
    return replace(row, completion=answer, source=f"{REPAIRED}:{row.source}") if is_right else None


def _usual(rows: Sequence[Example]) -> dict[str, str]:
    """The most frequent label of each prompt that has several; one that no row has where none is most frequent."""
    labels: dict[str, Counter[str]] = {}
    for row in rows:
        labels.setdefault(fingerprint(row.prompt), Counter())[_label(row)] += 1
    found = {}
    for mark, counts in labels.items():
        [(label, most), *others] = counts.most_common(2)
        if others:
            found[mark] = label if most > others[0][1] else ""
    return found


def _label(row: Example) -> str:
    return " ".join(row.completion.split())


def _what_was_checked(count: int, *, by: Repair) -> str:
    if by.can_verify:
        return f"the verifier refutes none of its {count} labels"
    return f"no program verifies labels, and none of its {count} rows contradicts another"
