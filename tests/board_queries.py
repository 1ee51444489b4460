"""The queries of the dashboards, asked of a Prometheus that scraped a run."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring import Monitoring

ROOT = Path(__file__).resolve().parents[1]
WINDOW = "[30s]"
"""Stands for Grafana's $__rate_interval: some scrapes of a demo."""


def empty_queries(asked: Monitoring, *, start: float, end: float) -> list[str]:
    """Queries without data in the time, but those that say what has to happen first."""
    sys.path.insert(0, str(ROOT / "deploy" / "grafana"))
    try:
        from panels import BOARDS, RATE
    finally:
        sys.path.pop(0)
    found = []
    for board in BOARDS:
        for query in (query for _, panels in board.rows for panel in panels for query in panel.queries):
            series = asked.query(query.expr.replace(RATE, WINDOW), start=start, end=end)
            if not series and not query.only_after:
                found.append(f"{board.title}: {query.expr}")
    return found
