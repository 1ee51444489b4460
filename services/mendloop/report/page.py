"""The page of one or more runs: one HTML file that needs no network. Knows summaries, plots and the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mendloop.report.funnel import funnel_of
from mendloop.report.plots import (
    Comparison,
    Difference,
    Estimate,
    Span,
    Trend,
    arm_differences,
    gate_forest,
    loss_curves,
    slice_accuracy,
    slice_trends,
    timeline,
)
from mendloop.report.summary import Document
from mendloop.report.templating import page_template
from mendloop.report.verdict_view import presented

MAX_SLICES = 24
MAX_TRENDS = 12


def render(summaries: Sequence[Document], *, title: str, subtitle: str) -> str:
    """The page as HTML text; everything that comes from a run is escaped."""
    return page_template("page.html.j2").render(
        title=title, subtitle=subtitle, runs=[_run(summary) for summary in summaries]
    )


def _run(summary: Document) -> Document:
    gates = [gate for gate in summary["gates"] if gate["n"]]
    return {
        **summary,
        "decision": summary["gate_decision"],
        "figures": _figures(summary),
        "verdicts": [presented(verdict) for verdict in summary["verdicts"]],
        "plans": [{**plan, "funnel": _funnel(plan)} for plan in summary["plans"]],
        "slice_plot": _slice_plot(summary),
        "trend_plot": _trend_plot(summary),
        "arm_plot": _arm_plot(summary),
        "gate_plot": gate_forest([_difference(gate) for gate in gates], margin=_margin(summary)) if gates else "",
        "timeline": _timeline(summary),
        "loss_plot": _loss_plot(summary),
        "health": [{**check, "training": t["training"]} for t in summary["trainings"] for check in t["health"]],
        "lineage": [{**node, "facts": _facts(node["facts"])} for node in summary["lineage"]],
    }


def _funnel(plan: Document) -> Document | None:
    """Of what people left of the batch, where they reviewed it."""
    batch = plan["reviewed"] or plan["batch"]
    return funnel_of(batch) if batch else None


def _figures(summary: Document) -> list[Document]:
    budget = summary["budget"]
    verdict = summary["verdicts"][0] if summary["verdicts"] else None
    return [
        {"value": verdict["cause"] if verdict else "no weak slice", "label": "first verdict"},
        {"value": summary["gate_decision"], "label": "gate decision"},
        {"value": f"{budget['new_examples']['used']} / {budget['new_examples']['limit']}", "label": "new examples"},
        {"value": f"{budget['train_tokens']['used']:,}", "label": "candidate training tokens"},
        {"value": f"{summary['seconds']:.0f} s", "label": "from request to end"},
    ]


def _slice_plot(summary: Document) -> str:
    rows = summary["slices"]
    targets = [row for row in rows if row["is_target"]]
    shown = [*targets, *(row for row in rows if not row["is_target"])][:MAX_SLICES]
    if not shown:
        return ""
    return slice_accuracy(
        [Comparison(r["slice"], _accuracy(r["before"]), _accuracy(r["after"]), r["is_target"]) for r in shown],
        threshold=summary["weak_below"],
    )


def _trend_plot(summary: Document) -> str:
    rows = [
        Trend(row["slice"], tuple((point["round"], _accuracy(point)) for point in row["points"]))
        for row in summary["trends"][:MAX_TRENDS]
    ]
    return slice_trends(rows, threshold=summary["weak_below"]) if rows else ""


def _accuracy(part: Document | None) -> Any:
    return Estimate(part["accuracy"], part["low"], part["high"], part["n"]) if part else None


def _difference(gate: Document) -> Difference:
    label = f"{gate['gate']}: {gate['slice']}"
    return Difference(
        label, Estimate(gate["after"] - gate["before"], gate["low"], gate["high"], gate["n"]), gate["passed"]
    )


def _margin(summary: Document) -> float:
    return float(summary.get("margin") or 0.05)


def _timeline(summary: Document) -> str:
    spans = [Span(_stage_label(s), s["start_s"], s["end_s"]) for s in summary["stages"]]
    return timeline(spans) if spans else ""


def _stage_label(stage: Document) -> str:
    return f"{stage['stage']}, round {stage['round']}" + (f", {stage['arm']}" if stage["arm"] else "")


def _arm_plot(summary: Document) -> str:
    rows = [
        (
            f"round {arm['round']}, {arm['arm']}: {row['slice']}",
            Estimate(row["difference"], row["low"], row["high"], row["n"]),
        )
        for arm in summary["arms"]
        for row in arm["differences"]
    ]
    return arm_differences(rows) if rows else ""


def _loss_plot(summary: Document) -> str:
    named = [(t["training"], t["loss_curve"]) for t in summary["trainings"]]
    named += [(f"{t['training']}, held out", t["held_out_curve"]) for t in summary["trainings"] if t["held_out_curve"]]
    curves = [(name, [(int(s), float(v)) for s, v in points]) for name, points in named]
    return loss_curves(curves) if any(points for _, points in curves) else ""


def _facts(facts: Document) -> str:
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {str(v)[:60]}" for k, v in facts.items())
