"""Tables of benchmarks/diagnosis.py on the console. Knows the document of figures alone."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mendloop.core.stats import clopper_pearson

SHORT = {
    "macro_accuracy": "macro accuracy",
    "macro_accuracy_abstention_wrong": "abstention counted wrong",
    "abstention": "abstention",
    "false_data_verdicts": "false data verdicts",
    "both_named": "both of two named",
    "something_wrong_named": "a wrong cause named",
    "controls_abstained": "controls abstained",
    "seconds": "s",
    "tokens": "tokens",
}


def print_figures(document: dict[str, Any], *, console: Console) -> None:
    """Bars by held-out family and by way to judge, confusion, calibration, cost."""
    console.print(_summaries("Held-out family, calibrated judge on all probes", document["by_family"]))
    console.print(_summaries("All families held out in turn, by way to judge", document["all_families"]))
    console.print(_confusion(document["confusion"]))
    console.print(_reliability(document["reliability"]["leading"]))
    ece = {name: document["reliability"][name]["ece"] for name in ("leading", "every")}
    console.print(f"ECE of the likeliest cause {ece['leading']:.3f}, of every cause {ece['every']:.3f}")
    console.print(f"stopping early keeps {document['stopping_keeps_verdict']:.1%} of the verdicts")
    console.print(_coverage(document["risk_coverage"]))


def _summaries(title: str, rows: dict[str, Any]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for name in rows:
        table.add_column(name, justify="right")
    for key, words in SHORT.items():
        table.add_row(words, *(_cell(row[key]) for row in rows.values()))
    return table


def _cell(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    ends = f"{value['low']:.2f}-{value['high']:.2f}"
    return f"{value['value']:.3f} ({ends}; {value['n']})"


def _confusion(rows: dict[str, dict[str, int]]) -> Table:
    table = Table(title="Verdicts on one planted fault (UNKNOWN: a control; right is to abstain)")
    for name in ("planted", "right", "95 %", "n", "abstains", "other verdicts"):
        table.add_column(name)
    for cause, counts in rows.items():
        n, right = sum(counts.values()), counts.get(cause, 0)
        low, high = clopper_pearson(right, n)
        other = sorted(((k, v) for k, v in counts.items() if k not in (cause, "UNKNOWN")), key=lambda pair: -pair[1])
        said = ", ".join(f"{name} {count}" for name, count in other)
        table.add_row(cause, f"{right / n:.2f}", f"{low:.2f}-{high:.2f}", str(n), str(counts.get("UNKNOWN", 0)), said)
    return table


def _reliability(rows: dict[str, Any]) -> Table:
    table = Table(title="Probability of the likeliest cause against how often it was planted")
    for name in ("said", "true", "95 %", "n"):
        table.add_column(name, justify="right")
    for row in rows["bins"]:
        table.add_row(f"{row['said']:.2f}", f"{row['value']:.2f}", f"{row['low']:.2f}-{row['high']:.2f}", str(row["n"]))
    return table


def _coverage(curve: list[dict[str, float]]) -> Table:
    table = Table(title="Risk against coverage, single faults")
    for name in ("coverage", "wrong among them"):
        table.add_column(name, justify="right")
    for at in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        reached = [row for row in curve if row["coverage"] <= at + 1e-9]
        if reached:
            table.add_row(f"{reached[-1]['coverage']:.2f}", f"{reached[-1]['risk']:.3f}")
    return table
