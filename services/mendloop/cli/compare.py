"""`mend compare`: two evaluations on the same items, as a table, a page or JSON. Knows options and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mendloop.cli import results
from mendloop.cli.screen import output
from mendloop.comparison.document import (
    CORRECTIONS,
    as_document,
    detectable_in_words,
    p_text,
    percent,
    points,
    reading,
    silent_losses,
    verdict,
)
from mendloop.comparison.estimates import Difference
from mendloop.comparison.result import Comparison, Correction, Settings, SideFacts, Unanswered
from mendloop.comparison.result import compare as compare_outcomes
from mendloop.core.errors import InvalidResults
from mendloop.suites.importers.collecting import Imported, Options

NUMERIC = ("n", "lost", "gained", "points")
STYLES = {"better": "green", "worse": "red", "not shown": "dim"}


def compare(
    first: Annotated[Path, typer.Argument(help="Results before: file or folder (Parquet, JSONL, lm-eval, inspect).")],
    second: Annotated[Path, typer.Argument(help="Results after, on the same items.")],
    by: Annotated[list[str] | None, typer.Option(help="Axis (or a+b) with a row per value; may be repeated.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    correction: Annotated[str, typer.Option(help="holm (no false row) or bh (few false rows).")] = "holm",
    min_n: Annotated[int, typer.Option(help="Rows with fewer items are left out and told.")] = 10,
    anytime: Annotated[bool, typer.Option(help="Also an interval that holds at every look.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the order of looks.")] = 0,
    names: Annotated[str, typer.Option(help="FIRST,SECOND as they are called in the report.")] = "",
    format_name: results.FormatName = "auto",
    metric: results.Metric = "",
    filter_name: results.FilterName = "",
    scorer: results.Scorer = "",
    answer_after: results.AnswerAfter = "",
    group: results.Group = "",
    skip_bad: results.SkipBad = False,
) -> None:
    """Compare two evaluations on the items that both have: per task and slice, with intervals and corrected p."""
    options = Options(
        answer_after=answer_after,
        metric=metric,
        filter=filter_name,
        scorer=scorer,
        axes=_plain_axes(by or []),
        group=group,
        drops_bad_rows=skip_bad,
    )
    screen = Console(stderr=True)
    sides = [
        results.read_with_progress(path, format_name=format_name, options=options, console=screen)
        for path in (first, second)
    ]
    try:
        settings = Settings(tuple(by or ()), confidence, _correction(correction), min_n, seed, anytime)
        labels = _labels(names, first, second)
        comparison = compare_outcomes(sides[0].outcomes, sides[1].outcomes, names=labels, settings=settings)
    except ValueError as error:
        raise InvalidResults(str(error)) from error
    if html is not None:
        from mendloop.report.compare_page import render_comparison  # needs the extra [report]; a table does not

        html.write_text(render_comparison(comparison, subtitle=f"{first} against {second}"), encoding="utf-8")
        screen.print(f"wrote {html}", soft_wrap=True)
    if as_json:
        imports = {side: _imported(found) for side, found in zip(("first", "second"), sides, strict=True)}
        typer.echo(json.dumps({**as_document(comparison), "imports": imports}, indent=1, ensure_ascii=False))
        return
    _print(comparison, sides, console=output())


def _print(comparison: Comparison, sides: list[Imported], *, console: Console) -> None:
    console.print(_table(comparison))
    console.print(Text(verdict(comparison), style="bold"))
    console.print(Text(detectable_in_words(comparison)))
    if comparison.rows:
        how = CORRECTIONS[comparison.settings.correction]
        console.print(Text(f"p corrected over {len(comparison.rows)} row(s) by {how}"))
    for line in _told(comparison, sides):
        console.print(Text(line, style="yellow"))


def _table(comparison: Comparison) -> Table:
    shows_unanswered = comparison.unanswered.first + comparison.unanswered.second > 0
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("", overflow="fold")
    for name in ("n", comparison.first.name, comparison.second.name, "lost", "gained", "points"):
        table.add_column(name, justify="right", no_wrap=name in NUMERIC)
    table.add_column(f"{percent(comparison.settings.confidence)} interval", justify="right", no_wrap=True)
    for name in (*(["no answer"] if shows_unanswered else []), "p", "sees"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in comparison.rows:
        found, p_value = reading(comparison, row), comparison.corrected(row)
        cells = _cells(row.difference, row.unanswered if shows_unanswered else None, p_value=p_value)
        table.add_row(row.axis, Text(row.value), *cells, style=STYLES[found])
    overall = comparison.overall
    cells = _cells(overall, comparison.unanswered if shows_unanswered else None, p_value=overall.p_value)
    table.add_row("all", "", *cells, style="bold")
    return table


def _cells(difference: Difference, unanswered: Unanswered | None, *, p_value: float) -> list[str]:
    low, high = difference.interval
    return [
        str(difference.n),
        f"{difference.first_mean:.1%}",
        f"{difference.second_mean:.1%}",
        str(difference.lost),
        str(difference.gained),
        points(difference.value),
        f"{points(low)} to {points(high)}",
        *([f"{unanswered.first} → {unanswered.second}"] if unanswered else []),
        p_text(p_value),
        f"{100 * difference.detectable:.1f}",
    ]


def _told(comparison: Comparison, sides: list[Imported]) -> list[str]:
    lines = [f"unpaired, {reason}: {len(ids)}" for reason, ids in comparison.unpaired.items()]
    lines += [f"{what}: {count}" for what, count in comparison.remarks.items()]
    lines += [f"{count} paired items have no value of {axis}" for axis, count in comparison.missing_axes.items()]
    if comparison.small_slices:
        count, least = len(comparison.small_slices), comparison.settings.min_n
        lines.append(
            f"{count} rows with fewer than {least} items left out: {', '.join(sorted(comparison.small_slices))}"
        )
    lines += silent_losses(comparison)
    if comparison.anytime is not None:
        low, high = comparison.anytime.sequence.last
        p_value = p_text(comparison.anytime.sequence.p_value, relation=True)
        lines.append(f"valid at every look: {points(low)} to {points(high)} points, p {p_value}")
    for facts, imported in zip((comparison.first, comparison.second), sides, strict=True):
        lines += _repeats(facts) + [f"{facts.name}: {line}" for line in results.told(imported)]
    return lines


def _repeats(side: SideFacts) -> list[str]:
    lines = [
        f"{side.name}: pass@{row.k} {row.any_right:.1%}, pass^{row.k} {row.all_right:.1%} ({row.n} items)"
        for row in side.passing
    ]
    if side.noise is not None:
        low, high = side.noise.interval
        lines.append(
            f"{side.name}: noise floor over {side.noise.seed_count} seeds: sd {100 * side.noise.sd:.2f} points"
            f" (95 % interval {100 * low:.2f} to {100 * high:.2f})"
        )
    return lines


def _plain_axes(by: list[str]) -> tuple[str, ...]:
    """Document fields to read where a source has documents; task and group are there without asking."""
    parts = dict.fromkeys(part for axis in by for part in axis.split("+"))
    return tuple(part for part in parts if part not in ("task", "group"))


def _correction(name: str) -> Correction:
    if name == "holm":
        return "holm"
    if name == "bh":
        return "bh"
    raise typer.BadParameter(f"{name!r} is no correction; choose holm or bh")


def _labels(names: str, first: Path, second: Path) -> tuple[str, str]:
    given = tuple(part.strip() for part in names.split(",")) if names else ()
    if given and (len(given) != 2 or not all(given)):
        raise typer.BadParameter(f"--names is {names!r}; write FIRST,SECOND")
    if given:
        return given[0], given[1]
    if first.stem != second.stem:
        return first.stem, second.stem
    return f"{first.parent.name}/{first.stem}", f"{second.parent.name}/{second.stem}"


def _imported(imported: Imported) -> dict[str, object]:
    return {
        "formats": list(imported.formats),
        "outcomes": len(imported.outcomes),
        "dropped": dict(imported.dropped),
        "notes": dict(imported.notes),
    }
