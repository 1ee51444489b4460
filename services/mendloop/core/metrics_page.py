"""docs/metrics.md from the metric table: `python -m mendloop.core.metrics_page > docs/metrics.md`."""

from __future__ import annotations

from mendloop.core.contracts import SERVICES
from mendloop.core.metric import OTHER, Label, Metric
from mendloop.core.metrics import METRICS, WORKERS


def document() -> str:
    """docs/metrics.md."""
    head = """# Metrics

Made from the table in `services/mendloop/core/metrics.py` by `python -m mendloop.core.metrics_page > docs/metrics.md`;
a test compares. Every service shows its metrics at `/metrics`, in Prometheus' text format or, where the scraper asks,
in OpenMetrics with exemplars (trace ids on the histograms). Every metric has the label `service`. The last column is
the most series that one process shows. The gateway's metrics of the loop are read from the log: with several gateways
each shows all, so take `max`, not `sum`; its counters count what is committed while it runs.

| name | type | unit | labels | shown by | meaning | series |
|---|---|---|---|---|---|---|
"""
    return head + "".join(_line(row) for row in METRICS)


def _line(row: Metric) -> str:
    name = row.exposed[0] if row.kind == "counter" else row.name
    labels = ", ".join(f"`{label.name}` ({_bound(label)})" for label in row.labels) or "–"
    shown_by = "all" if row.services == SERVICES else "workers" if row.services == WORKERS else ", ".join(row.services)
    return f"| `{name}` | {row.kind} | {row.unit} | {labels} | {shown_by} | {row.meaning} | {row.most_series} |\n"


def _bound(label: Label) -> str:
    if not label.values:
        return f"at most {label.most}, then `{OTHER}`"
    return ", ".join(label.values) if len(label.values) <= 7 else f"{len(label.values)} values"


if __name__ == "__main__":
    print(document(), end="")
