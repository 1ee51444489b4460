"""What people's annotations make of a batch: each row accepted, rejected or corrected, or a reason why not.

Pure: rows and annotations in, a review out. Knows no file format and no store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mendloop.core.errors import InvalidReview
from mendloop.core.records import Example
from mendloop.exchange.rows import Row

Verdict = Literal["accept", "reject", "correct"]
VERDICTS: tuple[Verdict, ...] = ("accept", "reject", "correct")
MOST_LISTED = 5

ACCEPTED, CORRECTED, REJECTED = "accepted", "corrected", "rejected by a person"
KEPT_UNREVIEWED, UNREVIEWED = "kept without a review", "nobody reviewed it"
DISAGREED = "its annotators disagree"
"""Reasons under which rows are counted."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one person said of one row. verdict is empty where the person skipped it."""

    row_id: str
    prompt: str
    verdict: str
    completion: str = ""
    """The right completion, where verdict is correct."""
    annotator: str = ""
    """Name or id as the tool gives it; empty where it gives none."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do where people left something open."""

    unreviewed: Literal["refuse", "keep", "drop"] = "refuse"
    disagreement: Literal["refuse", "drop"] = "refuse"


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one row; example is None where it was dropped."""

    row_id: str
    reason: str
    example: Example | None
    annotators: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """Every row of the batch, in its order."""

    rows: tuple[Decided, ...]

    @property
    def examples(self) -> list[Example]:
        """What is left, in the batch's order."""
        return [row.example for row in self.rows if row.example is not None]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.rows).most_common())

    @property
    def dropped(self) -> dict[str, int]:
        """Dropped rows by reason."""
        return dict(Counter(row.reason for row in self.rows if row.example is None).most_common())

    @property
    def annotators(self) -> tuple[str, ...]:
        """Everybody who is named, sorted."""
        return tuple(sorted({name for row in self.rows for name in row.annotators}))


def reviewed(rows: Sequence[Row], annotations: Sequence[Annotation], *, policy: Policy) -> Review:
    """The batch as people left it.

    Raises InvalidReview, with every fault, where annotations do not fit the batch: unknown rows, changed prompts,
    unknown verdicts, corrections without a completion; and as the policy says for rows that are open.
    """
    said = _by_row(annotations)
    _refuse_misfits(rows, annotations)
    decided = tuple(_decide(row, said.get(row.row_id, ()), policy=policy) for row in rows)
    faults = []
    if policy.unreviewed == "refuse":
        faults += _listed(decided, UNREVIEWED, "have no verdict: review them, or give --unreviewed keep or drop")
    if policy.disagreement == "refuse":
        faults += _listed(decided, DISAGREED, "have annotators who disagree: settle them, or give --disagreement drop")
    if faults:
        raise InvalidReview("; ".join(faults))
    return Review(decided)


def _by_row(annotations: Sequence[Annotation]) -> Mapping[str, list[Annotation]]:
    """Given verdicts by row; an annotator's later word replaces the earlier one, the same person counts once."""
    latest: dict[tuple[str, str], Annotation] = {}
    nameless: list[Annotation] = []
    for one in annotations:
        if one.verdict and one.annotator:
            latest[one.row_id, one.annotator] = one
        elif one.verdict:
            nameless.append(one)
    said: dict[str, list[Annotation]] = {}
    for one in (*latest.values(), *nameless):
        said.setdefault(one.row_id, []).append(one)
    return said


def _refuse_misfits(rows: Sequence[Row], annotations: Sequence[Annotation]) -> None:
    known = {row.row_id: row.example for row in rows}
    unknown = [one.row_id for one in annotations if one.row_id not in known]
    changed = [one.row_id for one in annotations if one.row_id in known and one.prompt != known[one.row_id].prompt]
    odd = [f"{one.row_id} ({one.verdict!r})" for one in annotations if one.verdict and one.verdict not in VERDICTS]
    torn = [
        one.row_id
        for one in annotations
        if one.verdict == "accept" and one.row_id in known and one.completion not in ("", known[one.row_id].completion)
    ]
    empty = [one.row_id for one in annotations if one.verdict == "correct" and not one.completion.strip()]
    faults = [
        *_complaint(unknown, "are not in this batch: was the file made from another one?"),
        *_complaint(changed, "have another prompt than the batch: a prompt that passed the funnel must not change"),
        *_complaint(odd, f"have an unknown verdict: it must be {', '.join(VERDICTS)} or empty"),
        *_complaint(torn, "are accepted with another completion: make the verdict correct, or undo the completion"),
        *_complaint(empty, "are to be corrected and have no new completion: give it, or reject them"),
    ]
    if faults:
        raise InvalidReview("; ".join(faults))


def _decide(row: Row, said: Sequence[Annotation], *, policy: Policy) -> Decided:
    names = tuple(sorted({one.annotator for one in said if one.annotator}))
    note = "; ".join(one.note for one in said if one.note)
    if not said:
        keeps = policy.unreviewed == "keep"
        return Decided(row.row_id, KEPT_UNREVIEWED if keeps else UNREVIEWED, row.example if keeps else None)
    outcomes = {_outcome(row, one) for one in said}
    if len(outcomes) > 1:
        return Decided(row.row_id, DISAGREED, None, names, note)
    verdict, completion = outcomes.pop()
    if verdict == "reject":
        return Decided(row.row_id, REJECTED, None, names, note)
    if verdict == "accept":
        return Decided(row.row_id, ACCEPTED, row.example, names, note)
    corrected = replace(row.example, completion=completion, source=f"{row.example.source}+corrected")
    return Decided(row.row_id, CORRECTED, corrected, names, note)


def _outcome(row: Row, one: Annotation) -> tuple[str, str]:
    """What an annotation asks for; a correction to the same text accepts."""
    if one.verdict != "correct":
        return one.verdict, ""
    return ("accept", "") if one.completion == row.example.completion else ("correct", one.completion)


def _listed(decided: Sequence[Decided], reason: str, complaint: str) -> list[str]:
    return _complaint([row.row_id for row in decided if row.reason == reason], complaint)


def _complaint(row_ids: Sequence[str], complaint: str) -> list[str]:
    distinct = list(dict.fromkeys(row_ids))
    if not distinct:
        return []
    more = f" and {len(distinct) - MOST_LISTED} more" if len(distinct) > MOST_LISTED else ""
    return [f"{len(distinct)} row(s) {complaint} ({', '.join(distinct[:MOST_LISTED])}{more})"]
