"""Which modes do the failures form, and what of the corpus lies nearest? A table for people; no verdict rests on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from mendloop.core.records import Example
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Attachment, Evidence, exact, missing
from mendloop.diagnostician.domain.failure_modes import ModeRow, fit_modes, table_of
from mendloop.diagnostician.domain.probing import CostClass

NAME = "failure_modes"
COUNT = "mode_count"
CORPUS_SAMPLE = 600
"""Distinct training prompts that are clustered: a tenth of a second; shares of clusters are known to 4 points."""
SHOWN = 80
"""Characters of a prompt, target or output in the table."""


class Modes:
    """Clusters the failures of both samples."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """The number of modes, with the table of them attached."""
        failures = [row for sample in case.samples for row in sample.failed]
        if not failures:
            return (missing(NAME, COUNT, reading="No item of the slice failed."),)
        modes = fit_modes(failures, _sample(case.corpus, seed=case.seed), task=case.task, seed=case.seed)
        rows = table_of(modes, failures, task=case.task)
        reading = f"{len(failures)} failures form {len(rows)} modes; the commonest ({rows[0].count}): {rows[0].name}."
        document = {
            "columns": ["mode", "n", "share", "nearest corpus clusters", "example"],
            "rows": [_cells(row) for row in rows],
            "version": modes.version,
        }
        found = exact(NAME, COUNT, len(rows), len(failures), reading=reading)
        return (replace(found, attachment=Attachment("failure modes", "table", document)),)


def _sample(corpus: Sequence[Example], *, seed: int) -> list[Example]:
    distinct = list({row.prompt: row for row in corpus}.values())
    return random.Random(seed).sample(distinct, min(CORPUS_SAMPLE, len(distinct)))


def _cells(row: ModeRow) -> list[object]:
    nearest = "; ".join(f"{name} ({similarity:.2f})" for name, similarity in row.nearest)
    item = row.example
    example = f"{_short(item.item.prompt)} → {_short(item.outcome.output)} (right: {_short(item.item.target)})"
    return [row.name, row.count, f"{row.share:.0%}", nearest, example]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
