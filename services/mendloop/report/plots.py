"""Plots of a run as SVG text that inherits the page's colours. Knows numbers and labels; knows no run.

Measured values are points with their 95 % interval; nothing is drawn without one where an interval exists.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BEFORE, AFTER, GOOD, BAD, MUTED = "#9aa4b2", "#2563eb", "#15803d", "#c2410c", "#94a3b8"


def styled() -> AbstractContextManager[None]:
    """Fonts and colours of every plot of the report."""
    return rc_context(
        {
            "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and recoloured
            "svg.hashsalt": "mendloop",  # the same run gives the same bytes
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


class Estimate(NamedTuple):
    """A value with the ends of its interval and the number of items behind it."""

    value: float
    low: float
    high: float
    n: int


class Comparison(NamedTuple):
    """A slice before and, where it was measured, after."""

    label: str
    before: Estimate
    after: Estimate | None
    is_target: bool


class Difference(NamedTuple):
    """A gate's measured difference."""

    label: str
    estimate: Estimate
    passed: bool


class Trend(NamedTuple):
    """A slice over rounds: (round, accuracy of its items)."""

    label: str
    points: tuple[tuple[int, Estimate], ...]


class Span(NamedTuple):
    """A stage of a run in seconds from its start."""

    label: str
    start_s: float
    end_s: float


def slice_accuracy(rows: Sequence[Comparison], *, threshold: float | None) -> str:
    """Accuracy of each slice before and after, with exact intervals and the threshold of weakness."""
    with styled():
        figure, axes = _canvas(len(rows), row_height=0.36)
        for index, row in enumerate(rows):
            _point(axes, row.before, y=index - 0.13, colour=BEFORE, label="before" if index == 0 else None)
            if row.after is not None:
                _point(axes, row.after, y=index + 0.13, colour=AFTER, label="after" if index == 0 else None)
        if threshold is not None:
            axes.axvline(threshold, color=BAD, linewidth=0.8, linestyle="--", label=f"weak below {threshold:g}")
        _rows(axes, [f"{'▸ ' if row.is_target else ''}{row.label} (n={row.before.n})" for row in rows])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("accuracy, 95 % exact interval")
        _legend(figure, axes)
        return as_svg(figure, title="Accuracy per slice before and after")


def slice_trends(rows: Sequence[Trend], *, threshold: float | None) -> str:
    """The accuracy of each slice's items over the rounds, with intervals; slices stand beside one another."""
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    with styled():
        figure = Figure(figsize=(7.2, 0.4 + 1.7 * down), layout="constrained")
        grid = figure.subplots(down, across, sharey=True, squeeze=False)
        for axes, row in zip(grid.flat, rows, strict=False):
            rounds = [number for number, _ in row.points]
            found = [estimate for _, estimate in row.points]
            axes.plot(rounds, [e.value for e in found], color=AFTER, linewidth=1.2, zorder=2)
            for at, estimate in row.points:
                axes.plot([at, at], [estimate.low, estimate.high], color=AFTER, linewidth=1.6, solid_capstyle="round")
                axes.plot([at], [estimate.value], "o", color=AFTER, markersize=4.5)
                axes.annotate(f"{estimate.value:.2f}", (at, estimate.value), (6, 4), textcoords="offset points")
            if threshold is not None:
                axes.axhline(threshold, color=BAD, linewidth=0.8, linestyle="--")
            axes.set_title(f"{_wrapped(row.label)} (n={found[-1].n})", fontsize=8.5)
            axes.set_xticks(rounds, ["base" if number == 0 else f"round {number}" for number in rounds])
            axes.set_xlim(min(rounds) - 0.3, max(rounds) + 0.45)
            axes.set_ylim(-0.03, 1.08)
            axes.grid(axis="y", color=MUTED, alpha=0.25, linewidth=0.6)
        for axes in list(grid.flat)[len(rows) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("accuracy")
        return as_svg(figure, title="Slices over checkpoints")


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 34)) or label


def gate_forest(rows: Sequence[Difference], *, margin: float) -> str:
    """Differences after - before with their intervals, beside the loss that a protected slice may have."""
    with styled():
        figure, axes = _canvas(len(rows), row_height=0.3)
        for index, row in enumerate(rows):
            _point(axes, row.estimate, y=index, colour=GOOD if row.passed else BAD)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.axvline(-margin, color=BAD, linewidth=0.8, linestyle="--", label=f"margin −{margin:g}")
        _rows(axes, [f"{row.label} (n={row.estimate.n})" for row in rows])
        axes.set_xlabel("change of accuracy on the same items, 95 % interval")
        _legend(figure, axes)
        return as_svg(figure, title="Gates")


def arm_differences(rows: Sequence[tuple[str, Estimate]]) -> str:
    """Differences main arm - control with their intervals: right of the line the loop's own batch did better."""
    with styled():
        figure, axes = _canvas(len(rows), row_height=0.3)
        for index, (_, estimate) in enumerate(rows):
            _point(axes, estimate, y=index, colour=AFTER)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        _rows(axes, [f"{label} (n={estimate.n})" for label, estimate in rows])
        axes.set_xlabel("accuracy of the main arm - the control's, on the same items, 95 % interval")
        return as_svg(figure, title="Control arms")


def evidence_shares(rows: Sequence[tuple[str, Estimate]]) -> str:
    """Probe measurements that are shares, each with its interval."""
    with styled():
        figure, axes = _canvas(len(rows), row_height=0.28)
        for index, (_, estimate) in enumerate(rows):
            _point(axes, estimate, y=index, colour=AFTER)
        _rows(axes, [f"{label} (n={estimate.n})" for label, estimate in rows])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("share, 95 % interval")
        return as_svg(figure, title="Evidence")


def cause_scores(rows: Sequence[tuple[str, float, bool]]) -> str:
    """Probability of each cause, 0 to 1; the third value says whether the verdict names it."""
    with styled():
        figure, axes = _canvas(len(rows), row_height=0.26)
        for index, (_, score, is_named) in enumerate(rows):
            axes.barh(index, score, height=0.62, color=AFTER if is_named else MUTED)
        _rows(axes, [f"{cause} ({score:.2f})" for cause, score, _ in rows])
        axes.set_xlim(0, 1)
        axes.set_xlabel("score of the cause")
        return as_svg(figure, title="Causes")


def timeline(spans: Sequence[Span]) -> str:
    """When each stage worked."""
    with styled():
        figure, axes = _canvas(len(spans), row_height=0.26)
        for index, span in enumerate(spans):
            axes.barh(index, max(span.end_s - span.start_s, 0.05), left=span.start_s, height=0.6, color=AFTER)
        _rows(axes, [f"{span.label} ({span.end_s - span.start_s:.1f} s)" for span in spans])
        axes.set_xlabel("seconds since the run was asked for")
        return as_svg(figure, title="Stages")


def loss_curves(curves: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> str:
    """Training loss by step."""
    with styled():
        figure = Figure(figsize=(7.2, 2.4), layout="constrained")
        axes = figure.subplots()
        for (label, points), colour in zip(curves, (AFTER, GOOD, BAD, MUTED, BEFORE) * len(curves), strict=False):
            axes.plot([step for step, _ in points], [loss for _, loss in points], label=label, color=colour)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss, nats per token")
        axes.set_yscale("log")
        _legend(figure, axes)
        return as_svg(figure, title="Training loss")


def _canvas(row_count: int, *, row_height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 0.9 + row_height * max(row_count, 1)), layout="constrained")
    return figure, figure.subplots()


def _point(axes: Axes, estimate: Estimate, *, y: float, colour: str, label: str | None = None) -> None:
    axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.6, solid_capstyle="round")
    axes.plot([estimate.value], [y], "o", color=colour, markersize=4.5, label=label)


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=MUTED, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(figure: Figure, axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=5)


def as_svg(figure: Figure, *, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Title": title, "Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
