"""Tables and plots of benchmarks/effectiveness.py. Knows figures; trains and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effectiveness_scale import ScaleRow
from effectiveness_scores import ArmRow, Bars, Estimate
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

ALL_BUDGETS = 0
COLOURS = ("#2563eb", "#94a3b8", "#d97706", "#7c3aed", "#059669")


def print_rows(rows: Sequence[ArmRow], *, console: Console) -> None:
    """A table a family: what each arm gains at each budget."""
    for family in dict.fromkeys(row.family for row in rows):
        own = [row for row in rows if row.family == family]
        table = Table(title=f"{family}: {own[0].seed_count} seeds; means with 95 % intervals over seeds, in points")
        for name in ("new examples", "arm"):
            table.add_column(name)
        for name in ("weak among them", "gain on targets", "overall", "in-distribution loss", "ours more", "p"):
            table.add_column(name, justify="right")
        for row in own:
            more, p = (_points(row.ours_more.difference), f"{row.ours_more.p:.4f}") if row.ours_more else ("", "")
            figures = (_points(row.gain), _points(row.overall), _points(row.loss, digits=2), more, p)
            table.add_row(_budget(row), row.arm, f"{row.weak_share:.0%}", *figures)
        console.print(table)


def print_bars(bars: Sequence[Bars], *, console: Console) -> None:
    """What ours has to show, and whether it does."""
    table = Table(title="Bars: above random and directly-sampled (p < .05), 80 % of the oracle's gain, loss of 1 point")
    for name in ("family", "new examples", "above random", "above direct", "oracle's share", "loss", "all"):
        table.add_column(name, justify="right")
    for bar in bars:
        table.add_row(
            bar.family,
            "all" if bar.budget == ALL_BUDGETS else str(bar.budget),
            f"{_mark(bar.beats_random)} p = {bar.p_random:.4f}",
            f"{_mark(bar.beats_direct)} p = {bar.p_direct:.4f}",
            f"{_mark(bar.reaches_oracle)} {_share(bar.oracle_share)}",
            f"{_mark(bar.keeps_rest)} {_points(bar.loss, digits=2)}",
            _mark(bar.passes),
        )
    console.print(table)


def print_scale(rows: Sequence[ScaleRow], *, console: Console) -> None:
    """A small model with the loop against a large one without it."""
    if not rows:
        return
    table = Table(title="A small model with the loop against a large one without it (goal: >= 95 % with <= 20 %)")
    for name in ("family", "seeds", "weights", "score: small", "+ loop", "large", "of the large one's score",
                 "of its training compute"):  # fmt: skip
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.family,
            str(row.seed_count),
            f"{row.small_parameters:,} / {row.large_parameters:,}",
            _points(row.small),
            _points(row.looped),
            _points(row.large),
            f"{_mark(row.reaches_score)} {_share(row.score_share)}",
            f"{_mark(row.reaches_compute)} {row.compute_share:.1%}",
        )
    console.print(table)


def draw(rows: Sequence[ArmRow], path: Path) -> None:
    """Gain on the targets against new examples, a panel a family."""
    families = list(dict.fromkeys(row.family for row in rows))
    figure = Figure(figsize=(4.2 * len(families), 3.8), layout="constrained")
    for axes, family in zip(figure.subplots(1, len(families), squeeze=False)[0], families, strict=True):
        own = [row for row in rows if row.family == family and row.budget != ALL_BUDGETS]
        for colour, arm in zip(COLOURS, dict.fromkeys(row.arm for row in own), strict=False):
            line = [row for row in own if row.arm == arm]
            ends = [[100 * (r.gain.mean - r.gain.low) for r in line], [100 * (r.gain.high - r.gain.mean) for r in line]]
            axes.errorbar(
                [row.budget for row in line], [100 * row.gain.mean for row in line], yerr=ends, label=arm,
                color=colour, marker="o", markersize=4, capsize=2, linewidth=1.5,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks([row.budget for row in own], [str(row.budget) for row in own])
        axes.minorticks_off()
        axes.set_title(f"{family} ({own[0].seed_count} seeds)")
        axes.set_xlabel("new examples")
        axes.set_ylabel("gain on the target slices, points (95 %)")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _budget(row: ArmRow) -> str:
    asked = "all" if row.budget == ALL_BUDGETS else str(row.budget)
    is_short = row.budget != ALL_BUDGETS and row.example_count < row.budget
    return f"{asked} (got {row.example_count:.1f})" if is_short else asked


def _points(value: Estimate, *, digits: int = 1) -> str:
    mean, low, high = (100 * part for part in value)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _share(value: Estimate) -> str:
    return f"{value.mean:.0%} [{value.low:.0%}, {value.high:.0%}]"


def _mark(is_met: bool) -> str:
    return "yes" if is_met else "no"
