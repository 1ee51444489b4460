"""The page of a comparison: one HTML file that needs no network. Knows the comparison, its plots and the template."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from mendloop.comparison.document import (
    CORRECTIONS,
    METHODS,
    detectable_in_words,
    p_text,
    percent,
    points,
    reading,
    silent_losses,
    verdict,
)
from mendloop.comparison.estimates import Difference
from mendloop.comparison.pairing import TASK_AXIS, Pair
from mendloop.comparison.result import Comparison, Row, SideFacts, Unanswered
from mendloop.report.compare_plots import (
    Domain,
    domain_of,
    flips_bar,
    forest_axis,
    forest_line,
    running_difference,
)

EXAMPLES_SHOWN = 16
"""Flipped items of each kind on the page, taken from the tasks in turn."""
IDS_SHOWN = 20
TONES = {"better": "good", "worse": "bad", "not shown": "flat"}


def render_comparison(comparison: Comparison, *, subtitle: str = "") -> str:
    """The page as HTML text; everything that comes from an evaluation is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = files("mendloop.report").joinpath("compare.html.j2").read_text(encoding="utf-8")
    overall = comparison.overall
    differences = [overall, *(row.difference for row in comparison.rows)]
    domain = domain_of([end for difference in differences for end in (*difference.interval, difference.value)])
    return environment.from_string(source).render(
        title=f"{comparison.first.name} → {comparison.second.name}",
        first=comparison.first.name,
        second=comparison.second.name,
        subtitle=subtitle,
        verdict=verdict(comparison),
        detectable=detectable_in_words(comparison),
        confidence=percent(comparison.settings.confidence),
        level=f"{comparison.level:g}",
        figures=_figures(comparison),
        total=_total(comparison, domain),
        blocks=_blocks(comparison, domain),
        axis=forest_axis(domain),
        shows_unanswered=comparison.unanswered.first + comparison.unanswered.second > 0,
        silent_losses=silent_losses(comparison),
        correction=CORRECTIONS[comparison.settings.correction],
        row_count=len(comparison.rows),
        flips=[_flips("Gained", comparison.gained), _flips("Lost", comparison.lost)],
        unpaired=[
            {"reason": reason, "count": len(ids), "ids": ids[:IDS_SHOWN], "more": max(0, len(ids) - IDS_SHOWN)}
            for reason, ids in comparison.unpaired.items()
        ],
        remarks=comparison.remarks,
        small_slices=sorted(comparison.small_slices),
        min_n=comparison.settings.min_n,
        missing_axes=comparison.missing_axes,
        anytime=_anytime(comparison),
        sides=[_side(side) for side in (comparison.first, comparison.second) if side.repeat_count > 1],
        methods=sorted({METHODS[difference.method] for difference in differences}),
        seed=comparison.settings.seed,
    )


def _figures(comparison: Comparison) -> list[dict[str, str]]:
    overall = comparison.overall
    return [
        {"value": f"{overall.first_mean:.1%}", "label": comparison.first.name, "tone": ""},
        {"value": f"{overall.second_mean:.1%}", "label": comparison.second.name, "tone": ""},
        {
            "value": f"{points(overall.value)} points",
            "label": f"{points(overall.interval.low)} to {points(overall.interval.high)}",
            "tone": _total_tone(comparison),
        },
        {"value": f"{overall.gained} / {overall.lost}", "label": "items gained / lost", "tone": ""},
        {"value": f"{100 * overall.detectable:.1f} points", "label": "least difference these items see", "tone": ""},
        {
            "value": f"{overall.n} + {sum(map(len, comparison.unpaired.values()))}",
            "label": "paired + unpaired items",
            "tone": "",
        },
    ]


def _total_tone(comparison: Comparison) -> str:
    if comparison.overall.p_value > comparison.level:
        return "flat"
    return "good" if comparison.overall.value > 0 else "bad"


def _total(comparison: Comparison, domain: Domain) -> dict[str, Any]:
    overall, tone = comparison.overall, _total_tone(comparison)
    line = forest_line(overall.value, *overall.interval, domain=domain, tone=tone, is_total=True)
    return {
        **_numbers(overall, comparison.unanswered, full_share=_full_share(comparison)),
        "label": "all items",
        "forest": line,
        "p": p_text(overall.p_value),
        "reading": {"good": "better", "bad": "worse", "flat": "not shown"}[tone],
        "tone": tone,
    }


def _blocks(comparison: Comparison, domain: Domain) -> list[dict[str, Any]]:
    """Rows by axis: tasks first, each block ordered by its difference."""
    by_axis: dict[str, list[Row]] = defaultdict(list)
    for row in comparison.rows:
        by_axis[row.axis].append(row)
    return [
        {
            "title": "task" if axis == TASK_AXIS else axis.replace("+", " and "),
            "rows": [
                _row(comparison, row, domain=domain) for row in sorted(rows, key=lambda row: -row.difference.value)
            ],
        }
        for axis, rows in by_axis.items()
    ]


def _row(comparison: Comparison, row: Row, *, domain: Domain) -> dict[str, Any]:
    difference, found = row.difference, reading(comparison, row)
    return {
        **_numbers(difference, row.unanswered, full_share=_full_share(comparison)),
        "label": row.value,
        "forest": forest_line(difference.value, *difference.interval, domain=domain, tone=TONES[found]),
        "p": p_text(comparison.corrected(row)),
        "reading": found,
        "tone": TONES[found],
    }


def _full_share(comparison: Comparison) -> float:
    """The largest share of a row's items that flipped one way: what fills a side of the bars."""
    differences = [comparison.overall, *(row.difference for row in comparison.rows)]
    return max(max(difference.lost, difference.gained) / difference.n for difference in differences)


def _numbers(difference: Difference, unanswered: Unanswered, *, full_share: float) -> dict[str, Any]:
    return {
        "n": difference.n,
        "first": f"{difference.first_mean:.1%}",
        "second": f"{difference.second_mean:.1%}",
        "difference": points(difference.value),
        "interval": f"{points(difference.interval.low)} to {points(difference.interval.high)}",
        "lost": difference.lost,
        "bar": flips_bar(difference.lost, difference.gained, full=full_share * difference.n),
        "unanswered": f"{unanswered.first} → {unanswered.second}",
        "gained": difference.gained,
        "detectable": f"{100 * difference.detectable:.1f}",
        "raw_p": p_text(difference.p_value),
    }


def _flips(title: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    return {"title": title, "count": len(pairs), "examples": [_example(pair) for pair in _in_turn(pairs)]}


def _in_turn(pairs: Sequence[Pair]) -> list[Pair]:
    """The first items of each task in turn, so that a large task does not hide the others."""
    by_task: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_task["/".join(pair.axes.get(TASK_AXIS, ()))].append(pair)
    ranked = [(rank, task, pair) for task, found in by_task.items() for rank, pair in enumerate(found)]
    return [pair for _, _, pair in sorted(ranked, key=lambda entry: entry[:2])[:EXAMPLES_SHOWN]]


def _example(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.item_id,
        "is_silent": not pair.second.is_answered,
        "prompt": pair.prompt,
        "target": pair.target,
        "first": pair.first.output,
        "second": pair.second.output,
        "scores": f"{pair.first.mean:.3g} → {pair.second.mean:.3g}",
    }


def _anytime(comparison: Comparison) -> dict[str, Any] | None:
    found = comparison.anytime
    if found is None:
        return None
    sequence = found.sequence
    decided = (sequence.low_N > 0) | (sequence.high_N < 0)
    return {
        "plot": running_difference(found.running_mean, sequence.low_N.tolist(), sequence.high_N.tolist()),
        "interval": f"{points(sequence.last.low)} to {points(sequence.last.high)}",
        "p": p_text(sequence.p_value, relation=True),
        "decided_after": int(decided.argmax()) + 1 if decided.any() else None,
    }


def _side(side: SideFacts) -> dict[str, Any]:
    noise = side.noise
    return {
        "name": side.name,
        "repeats": side.repeat_count,
        "passing": [
            {
                "k": row.k,
                "n": row.n,
                "any": f"{row.any_right:.1%}",
                "any_interval": f"{row.any_right_interval.low:.1%} to {row.any_right_interval.high:.1%}",
                "all": f"{row.all_right:.1%}",
                "all_interval": f"{row.all_right_interval.low:.1%} to {row.all_right_interval.high:.1%}",
            }
            for row in side.passing
        ],
        "noise": noise
        and {
            "sd": f"{100 * noise.sd:.2f}",
            "interval": f"{100 * noise.interval.low:.2f} to {100 * noise.interval.high:.2f}",
            "least": f"{100 * noise.least_difference:.1f}",
            "seeds": noise.seed_count,
        },
    }
