"""A verdict as a reader sees it: causes as bars, evidence with its intervals, attachments as pictures and tables.

Knows the documents of verdicts and attachments; knows no run and no page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mendloop.report.heat_map import heat_map
from mendloop.report.plots import Estimate, cause_scores, evidence_shares
from mendloop.report.verdicts import Document

SHOWN_CAUSES = 8
"""Causes that the picture shows, the likeliest first; the figures of all stand in the JSON."""
LEAST_SCORE = 0.01
"""Causes below it are no bar."""
SHOWN_ROWS = 20
"""Rows of an attached table on the page."""


def presented(verdict: Document) -> Document:
    """The verdict with its pictures; what was measured apart from what could not be."""
    measured = [row for row in verdict["evidence"] if row["n"]]
    return {
        **verdict,
        "cause_plot": _cause_plot(verdict),
        "plot": _evidence_plot(measured),
        "measured": measured,
        "unmeasured": [row for row in verdict["evidence"] if not row["n"]],
        "attachments": [
            _attachment(row["attachment"], probe=row["probe"]) for row in measured if row.get("attachment")
        ],
    }


def _cause_plot(verdict: Document) -> str:
    likely = [(cause, score) for cause, score in verdict["scores"].items() if score >= LEAST_SCORE]
    ranked = sorted(likely, key=lambda pair: -pair[1])[:SHOWN_CAUSES]
    named = {verdict["cause"], *verdict.get("also", ())}
    return cause_scores([(cause, score, cause in named) for cause, score in ranked]) if ranked else ""


def _evidence_plot(rows: Sequence[Document]) -> str:
    shares = [
        (f"{row['probe']}: {row['measurement']}", Estimate(row["value"], row["low"], row["high"], row["n"]))
        for row in rows
        if row["measurement"].partition("[")[0].endswith(("share", "_failed", "_passing"))
    ]
    return evidence_shares(shares) if shares else ""


def _attachment(attachment: Document, *, probe: str) -> Document:
    document = attachment["document"]
    title = f"{probe}: {attachment['name']}"
    if attachment["kind"] == "heat_map":
        return {"title": title, "plot": heat_map(document), "columns": [], "rows": [], "more": 0}
    columns, rows = document.get("columns", []), document.get("rows", [])
    shown = [list(_cells(row)) for row in rows[:SHOWN_ROWS]]
    return {"title": title, "plot": "", "columns": columns, "rows": shown, "more": max(0, len(rows) - SHOWN_ROWS)}


def _cells(row: Sequence[object]) -> Iterator[str]:
    return (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
