"""The failure modes of a case as one row of evidence with its table: what to look at; no verdict rests on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from mendloop.core.records import Example
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Attachment, Evidence, missing, share
from mendloop.diagnostician.domain.failure_modes import FailureModes, ModeRow, fit_modes, table_of

NAME = "failure_modes"
LARGEST = "largest_mode_share"
COLUMNS = ["mode", "failures", "share", "nearest clusters of the corpus", "prompt", "output", "target"]
CORPUS_SAMPLE = 600
"""Distinct training prompts that are clustered: a tenth of a second; shares of clusters are known to 4 points."""
LONGEST_TEXT = 200
"""Characters of a text that the table shows; the whole one stands in the outcomes."""


def modes_of(case: Case) -> tuple[FailureModes | None, Evidence]:
    """The modes of both samples' failures, and the row that shows them; None where nothing failed."""
    failures = [row for sample in case.samples for row in sample.failed]
    if not failures:
        return None, missing(NAME, LARGEST, reading="No failure was sampled.")
    corpus = corpus_sample(case.corpus, seed=case.seed)
    modes = fit_modes(failures, corpus, task=case.task, seed=case.seed)
    rows = table_of(modes, failures, task=case.task)
    largest = rows[0]
    reading = (
        f"{len(failures)} sampled failures form {len(rows)} modes (version {modes.version}); the commonest is "
        f"{largest.name!r} with {largest.count}."
    )
    found = share(NAME, LARGEST, largest.count, len(failures), reading=reading)
    return modes, replace(found, attachment=_table(rows, version=modes.version))


def corpus_sample(corpus: Sequence[Example], *, seed: int) -> list[Example]:
    """At most CORPUS_SAMPLE examples with different prompts, in the corpus's order: a corpus may have millions."""
    distinct = list({row.prompt: row for row in corpus}.values())
    chosen = random.Random(seed).sample(range(len(distinct)), min(CORPUS_SAMPLE, len(distinct)))
    return [distinct[at] for at in sorted(chosen)]


def _table(rows: Sequence[ModeRow], *, version: str) -> Attachment:
    cells = [
        [
            row.name,
            row.count,
            row.share,
            "; ".join(f"{name} ({similarity:.2f})" for name, similarity in row.nearest),
            *map(_short, (row.example.item.prompt, row.example.outcome.output, row.example.item.target)),
        ]
        for row in rows
    ]
    return Attachment(f"modes of the failures, version {version}", "table", {"columns": COLUMNS, "rows": cells})


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
