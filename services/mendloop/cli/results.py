"""Reading results for the command line: options that both commands share, and the progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mendloop.suites.importers.collecting import Imported, Options
from mendloop.suites.importers.reading import FORMATS, Format, read_results, size_of

FormatName = Annotated[str, typer.Option("--format", help=", ".join(FORMATS))]
Metric = Annotated[str, typer.Option(help="lm-eval: the metric that is the score; default its first of 0..1.")]
FilterName = Annotated[str, typer.Option("--filter", help="lm-eval: whose lines are read; default its first filter.")]
Scorer = Annotated[str, typer.Option(help="inspect: the scorer whose value is the score; default its first.")]
AnswerAfter = Annotated[str, typer.Option(help="JSONL without scores: the answer follows this text.")]
Axis = Annotated[list[str] | None, typer.Option(help="Field of the document that becomes an axis; may be repeated.")]
Group = Annotated[str, typer.Option(help="Field of the document that says which items belong together.")]
Steps = Annotated[
    list[str] | None,
    typer.Option(help="Who looks for first wrong steps: arithmetic, scan, PACKAGE.MODULE:NAME; may be repeated."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and count them, instead of refusing.")]


def read_with_progress(path: Path, *, format_name: str, options: Options, console: Console) -> Imported:
    """Outcomes of a file or folder, with a bar where a person looks on."""
    return _read(path, format_name=known_format(format_name), options=options, console=console)


def known_format(name: str) -> Format:
    """The format of this name. Raises BadParameter with the formats there are."""
    chosen = next((known for known in FORMATS if known == name), None)
    if chosen is None:
        raise typer.BadParameter(f"{name!r} is no format; choose one of {', '.join(FORMATS)}")
    return chosen


def told(imported: Imported) -> list[str]:
    """What a reader must know about an import: what was dropped and why, and what was noticed."""
    dropped = [f"dropped {count}: {reason}" for reason, count in imported.dropped.items()]
    return dropped + [f"noted {count}: {what}" for what, count in imported.notes.items()]


def _read(path: Path, *, format_name: Format, options: Options, console: Console) -> Imported:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"reading {path.name}", total=size_of(path))
        return read_results(
            path, format_name=format_name, options=options, on_bytes=lambda count: progress.advance(bar, count)
        )
