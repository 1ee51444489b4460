"""A comparison as words and as plain values for JSON. Knows the comparison; knows neither terminal nor page."""

from __future__ import annotations

import math
from typing import Any

from mendloop.comparison.estimates import Difference
from mendloop.comparison.power import in_words
from mendloop.comparison.result import Comparison, Row, SideFacts

METHODS = {
    "mcnemar": "exact McNemar test, Tango's score interval",
    "clustered": "clustered standard errors over groups, Student's t",
    "bootstrap": "studentized paired bootstrap over items",
    "none": "nothing to compare",
}
CORRECTIONS = {
    "holm": "Holm: the chance of even one false row is held at the level",
    "bh": "Benjamini-Hochberg: the share of false rows among those called different is held at the level",
}
SCHEMA = 1
LOSSES_NEEDED = 5
"""Lost items from which on a row's losses are worth a word."""


def verdict(comparison: Comparison) -> str:
    """The overall finding in one sentence."""
    overall, second, first = comparison.overall, comparison.second.name, comparison.first.name
    low, high = overall.interval
    interval = f"{points(low)} to {points(high)} points, {percent(comparison.settings.confidence)} interval"
    if overall.p_value > comparison.level:
        return (
            f"No difference between {first} and {second} is shown ({points(overall.value)} points; {interval};"
            f" p = {p_text(overall.p_value)})."
        )
    word = "better" if overall.value > 0 else "worse"
    return (
        f"{second} is {word} than {first} by {abs(100 * overall.value):.1f} points on {overall.n} items"
        f" ({interval}; p {p_text(overall.p_value, relation=True)})."
    )


def reading(comparison: Comparison, row: Row) -> str:
    """better, worse or "not shown", after correction."""
    if comparison.corrected(row) > comparison.level:
        return "not shown"
    return "better" if row.difference.value > 0 else "worse"


def silent_losses(comparison: Comparison) -> list[str]:
    """Rows where half of the lost items or more have no answer in the second set: format or length, not ability."""
    return [
        f"{row.axis} {row.value}: {row.unanswered.lost} of {row.difference.lost} lost items have no answer in"
        f" {comparison.second.name} that the scorer could find ({row.unanswered.second} of {row.difference.n} items"
        " have none); look at stop reasons and extraction before calling it ability"
        for row in comparison.rows
        if row.difference.lost >= LOSSES_NEEDED and 2 * row.unanswered.lost >= row.difference.lost
    ]


def percent(share: float) -> str:
    """A level of confidence as the house writes it: 95 %."""
    return f"{100 * share:g} %"


def detectable_in_words(comparison: Comparison) -> str:
    """The overall minimum detectable effect as a sentence."""
    sentence = in_words(comparison.overall.n, comparison.overall.detectable, level=round(comparison.level, 6))
    return f"{sentence[0].upper()}{sentence[1:]}."


def points(value: float) -> str:
    """A share as signed percentage points with a real minus sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def p_text(p_value: float, *, relation: bool = False) -> str:
    """A p-value with two significant digits; with relation, "= .03" or "< .001"."""
    if p_value < 0.001:
        return "< .001" if relation else "<.001"
    text = f"{p_value:.2f}" if p_value >= 0.1 else f"{p_value:.2g}"
    text = text.removeprefix("0") if p_value < 0.995 else "1.00"
    return f"= {text}" if relation else text


def as_document(comparison: Comparison) -> dict[str, Any]:
    """All figures as JSON values; ids of flipped and unpaired items, no prompts and no outputs."""
    settings = comparison.settings
    return {
        "schema": SCHEMA,
        "first": _side(comparison.first),
        "second": _side(comparison.second),
        "settings": {
            "by": list(settings.by),
            "confidence": settings.confidence,
            "correction": settings.correction,
            "corrected_over": len(comparison.rows),
            "min_n": settings.min_n,
            "seed": settings.seed,
        },
        "verdict": verdict(comparison),
        "detectable_in_words": detectable_in_words(comparison),
        "silent_losses": silent_losses(comparison),
        "overall": {**_difference(comparison.overall), "unanswered": comparison.unanswered._asdict()},
        "rows": [
            {
                "axis": row.axis,
                "value": row.value,
                **_difference(row.difference),
                "unanswered": row.unanswered._asdict(),
                "p_holm": row.p_holm,
                "p_bh": row.p_bh,
                "reading": reading(comparison, row),
            }
            for row in comparison.rows
        ],
        "lost": [pair.item_id for pair in comparison.lost],
        "gained": [pair.item_id for pair in comparison.gained],
        "unpaired": {reason: {"count": len(ids), "item_ids": list(ids)} for reason, ids in comparison.unpaired.items()},
        "remarks": dict(comparison.remarks),
        "small_slices": sorted(comparison.small_slices),
        "missing_axes": dict(comparison.missing_axes),
        "anytime": _anytime(comparison),
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "n": difference.n,
        "group_count": difference.group_count,
        "first": _number(difference.first_mean),
        "second": _number(difference.second_mean),
        "difference": _number(difference.value),
        "low": difference.interval.low,
        "high": difference.interval.high,
        "p": difference.p_value,
        "lost": difference.lost,
        "gained": difference.gained,
        "detectable": difference.detectable,
        "method": difference.method,
    }


def _side(side: SideFacts) -> dict[str, Any]:
    noise = side.noise
    return {
        "name": side.name,
        "items": side.item_count,
        "repeats": side.repeat_count,
        "noise_floor": None
        if noise is None
        else {
            "seeds": noise.seed_count,
            "n": noise.n,
            "left_out": noise.left_out_count,
            "sd": noise.sd,
            "low": noise.interval.low,
            "high": noise.interval.high,
            "least_difference": noise.least_difference,
        },
        "passing": [
            {
                "k": row.k,
                "n": row.n,
                "left_out": row.left_out_count,
                "pass_at_k": _number(row.any_right),
                "pass_at_k_interval": list(row.any_right_interval),
                "pass_power_k": _number(row.all_right),
                "pass_power_k_interval": list(row.all_right_interval),
            }
            for row in side.passing
        ],
    }


def _anytime(comparison: Comparison) -> dict[str, Any] | None:
    if comparison.anytime is None:
        return None
    sequence = comparison.anytime.sequence
    return {"low": sequence.last.low, "high": sequence.last.high, "p": sequence.p_value}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
