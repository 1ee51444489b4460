"""Plots of a comparison as SVG text: one forest line a table row, flips as a bar, the difference as items come in.

Knows numbers only, never a label, so that the text needs no escaping; colours are the page's CSS classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

WIDTH, ROW_HEIGHT = 250, 26
FLIPS_WIDTH = 60
RUNNING_WIDTH, RUNNING_HEIGHT = 860, 240
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
_POINTS = 300
"""Points drawn of a running curve: more cannot be seen."""


class Domain(NamedTuple):
    """Ends of an axis and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float, *, width: float) -> float:
        """Position of a value, kept inside the axis."""
        inside = min(max(value, self.low), self.high)
        return round((inside - self.low) / (self.high - self.low) * width, 2)


def domain_of(values: Iterable[float], *, tick_count: int = 7) -> Domain:
    """An axis with round ticks around 0 and all values."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    low, high = (low - 0.02, high + 0.02) if high - low < 0.04 else (low, high)
    step = next((step for step in _STEPS if (high - low) / step <= tick_count), _STEPS[-1])
    first, last = math.floor(low / step), math.ceil(high / step)
    return Domain(first * step, last * step, tuple(index * step for index in range(first, last + 1)))


def forest_line(value: float, low: float, high: float, *, domain: Domain, tone: str, is_total: bool = False) -> str:
    """One row of a forest plot: interval, estimate (a diamond for the total), zero and grid. tone is a CSS class."""
    middle = ROW_HEIGHT / 2
    x, left, right = (domain.at(v, width=WIDTH) for v in (value, low, high))
    grid = "".join(
        f'<line class="{"zero" if abs(tick) < 1e-9 else "grid"}" x1="{at}" x2="{at}" y1="0" y2="{ROW_HEIGHT}"/>'
        for tick in domain.ticks
        for at in [domain.at(tick, width=WIDTH)]
    )
    if is_total:
        shape = f'<polygon class="{tone}" points="{left},{middle} {x},{middle - 7} {right},{middle} {x},{middle + 7}"/>'
    else:
        shape = (
            f'<line class="{tone} whisker" x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"/>'
            f'<circle class="{tone}" cx="{x}" cy="{middle}" r="4.2"/>'
        )
    return _svg(grid + shape, WIDTH, ROW_HEIGHT, css="forest")


def forest_axis(domain: Domain) -> str:
    """The axis below the rows, in percentage points."""
    last = len(domain.ticks) - 1
    ticks = "".join(
        f'<text x="{domain.at(tick, width=WIDTH)}" y="12" text-anchor="{_anchor(index, last)}">{_points(tick)}</text>'
        for index, tick in enumerate(domain.ticks)
    )
    return _svg(ticks, WIDTH, 16, css="forest axis")


def flips_bar(lost: int, gained: int, *, full: float) -> str:
    """Items lost to the left, gained to the right of the middle; as many as `full` fill a side."""
    half, height = FLIPS_WIDTH / 2, 10
    left, right = (round(half * min(count / max(full, 1e-9), 1), 2) for count in (lost, gained))
    bars = (
        f'<rect class="bad" x="{half - left}" y="0" width="{left}" height="{height}"/>'
        f'<rect class="good" x="{half}" y="0" width="{right}" height="{height}"/>'
        f'<line class="zero" x1="{half}" x2="{half}" y1="0" y2="{height}"/>'
    )
    return _svg(bars, FLIPS_WIDTH, height, css="flips")


def running_difference(means: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> str:
    """The difference and its confidence sequence as items come in, from the first item to the last."""
    count = len(means)
    shown = sorted({round(index * (count - 1) / (_POINTS - 1)) for index in range(_POINTS)}) if count > 1 else [0]
    late = [index for index in shown if index >= count // 50]
    domain = domain_of([means[i] for i in late] + [lows[i] for i in late] + [highs[i] for i in late])
    margin = 44

    def x(index: int) -> float:
        return round(margin + (RUNNING_WIDTH - margin - 8) * index / max(count - 1, 1), 1)

    def y(value: float) -> float:
        return round(8 + (RUNNING_HEIGHT - 36) * (1 - domain.at(value, width=1.0)), 1)

    band = [f"{x(i)},{y(highs[i])}" for i in shown] + [f"{x(i)},{y(lows[i])}" for i in reversed(shown)]
    curve = " ".join(f"{x(i)},{y(means[i])}" for i in shown)
    grid = "".join(
        f'<line class="{"zero" if abs(tick) < 1e-9 else "grid"}" x1="{margin}" x2="{RUNNING_WIDTH - 8}"'
        f' y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text x="{margin - 6}" y="{y(tick) + 4}" text-anchor="end">{_points(tick)}</text>'
        for tick in domain.ticks
    )
    ends = (
        f'<text x="{margin}" y="{RUNNING_HEIGHT - 8}">1 item</text>'
        f'<text x="{RUNNING_WIDTH - 8}" y="{RUNNING_HEIGHT - 8}" text-anchor="end">{count} items</text>'
    )
    drawn = f'<polygon class="band" points="{" ".join(band)}"/><polyline class="curve" points="{curve}"/>'
    return _svg(drawn + grid + ends, RUNNING_WIDTH, RUNNING_HEIGHT, css="running")


def _anchor(index: int, last: int) -> str:
    if index == 0:
        return "start"
    return "end" if index == last else "middle"


def _points(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{100 * value:+.0f}".replace("-", "−")


def _svg(inside: str, width: float, height: float, *, css: str) -> str:
    return f'<svg class="{css}" viewBox="0 0 {width} {height}" role="img" aria-hidden="true">{inside}</svg>'
