"""`mend import-eval`: results made elsewhere become one Outcome Parquet file. Knows options and words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mendloop.cli import results
from mendloop.cli.process import steps_summary
from mendloop.cli.screen import output
from mendloop.suites.importers.collecting import Imported, Options
from mendloop.suites.importers.outcome_parquet import write


def import_eval(
    file: Annotated[Path, typer.Argument(help="File, or folder whose files together are one evaluation.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    format_name: results.FormatName = "auto",
    metric: results.Metric = "",
    filter_name: results.FilterName = "",
    scorer: results.Scorer = "",
    answer_after: results.AnswerAfter = "",
    axis: results.Axis = None,
    group: results.Group = "",
    steps: results.Steps = None,
    skip_bad: results.SkipBad = False,
) -> None:
    """Turn results of lm-eval, inspect_ai or plain JSONL into outcomes (docs/outcomes.md has the formats)."""
    options = Options(
        answer_after=answer_after,
        metric=metric,
        filter=filter_name,
        scorer=scorer,
        axes=tuple(axis or ()),
        group=group,
        drops_bad_rows=skip_bad,
        steps=tuple(steps or ()),
    )
    console, screen = output(), Console(stderr=True)
    imported = results.read_with_progress(file, format_name=format_name, options=options, console=screen)
    byte_count = write(out, imported.outcomes)
    console.print(_summary(imported), highlight=False)
    if steps:
        for line in steps_summary(imported.outcomes):
            console.print(f"  {line}", highlight=False, markup=False)
    for line in results.told(imported):
        console.print(f"  {line}", highlight=False, markup=False)
    console.print(f"wrote {out} ({byte_count:,} bytes)", highlight=False, soft_wrap=True)


def _summary(imported: Imported) -> str:
    n, items = len(imported.outcomes), imported.item_count
    rows = f"{n} outcomes of {items} items" if n != items else f"{n} outcomes"
    low, high = imported.accuracy_interval
    return (
        f"{rows} ({', '.join(imported.formats)}): accuracy {imported.accuracy:.1%}"
        + (f", 95 % interval {low:.1%} to {high:.1%}" if n == items else ", repeats counted alike")
        + f"; mean score {sum(row.score for row in imported.outcomes) / n:.3f}"
    )
