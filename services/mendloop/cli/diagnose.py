"""`mend diagnose`: why results are bad, without a run, as a table, a page or JSON. Knows options alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from mendloop.cli import results
from mendloop.core.tasks import Conditions
from mendloop.suites.importers.collecting import Options

VARIANT_KINDS = ("steps", "earlier", "longer", "format", "wording", "sampled", "reference")
"""As in diagnostician.domain.probes.stored_variants; a test compares them."""


def diagnose(
    source: Annotated[
        Path, typer.Argument(help="Results (Parquet, JSONL, lm-eval, inspect), or a case folder (`mend faults plant`).")
    ],
    model: Annotated[Path | None, typer.Option(help="Checkpoint directory that gave the results.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Its training data: JSONL {prompt, completion} or Parquet.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Checkpoint that its training started from.")] = None,
    items: Annotated[Path | None, typer.Option(help="The items, where the results do not hold prompts.")] = None,
    training_report: Annotated[Path | None, typer.Option(help="Report of its training (JSON).")] = None,
    task: Annotated[
        str, typer.Option(help="Task family that scores and verifies outputs; default: stored scores.")
    ] = "",
    task_option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the task; may be repeated.")] = None,
    template: Annotated[str, typer.Option(help="How a prompt is put to the model, e.g. 'Q: {prompt} A:'.")] = "",
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="AXIS=VALUE[,AXIS=VALUE]; may be repeated; default: weak values, else all."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help=f"KIND=RESULTS of the same items with one thing changed; KIND: {', '.join(VARIANT_KINDS)}."),
    ] = None,
    max_slices: Annotated[
        int, typer.Option(min=1, help="Slices with fewer failures than the first ones are left out.")
    ] = 12,
    all_evidence: Annotated[
        bool, typer.Option("--all-probes", help="Run every probe, even where the verdict is clear.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts and evidence as JSON.")] = False,
    format_name: results.FormatName = "auto",
    answer_after: results.AnswerAfter = "",
    axis: results.Axis = None,
    skip_bad: results.SkipBad = False,
) -> None:
    """Say why results are bad: a cause with its evidence for each weak slice, or that it cannot be told, and why.

    Least: `mend diagnose results.jsonl`. More is known with the checkpoint and its training data:
    `mend diagnose results.jsonl --model DIR --corpus data.jsonl --html why.html`.
    """
    given: dict[str, Any] = {
        "model": model,
        "corpus": corpus,
        "start": start,
        "items": items,
        "training_report": training_report,
        "task_name": task,
        "task_options": dict(map(_task_option, task_option or [])),
        "template": template,
        "format_name": results.known_format(format_name),
        "variants": dict(map(_variant, variant or [])),
        "reading": Options(answer_after=answer_after, axes=tuple(axis or ()), drops_bad_rows=skip_bad),
    }
    from mendloop.cli.diagnosing import Wish, diagnose_files  # seconds of imports, which --help does not need

    wish = Wish(tuple(map(_conditions, slices or [])), max_slices, all_evidence, html, as_json)
    diagnose_files(source, given={name: value for name, value in given.items() if value}, wish=wish)


def _conditions(text: str) -> Conditions:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(axis and equals and value for axis, equals, value in pairs):
        raise typer.BadParameter(f"--slice is {text!r}; write AXIS=VALUE, several joined by commas")
    return tuple((axis.strip(), value.strip()) for axis, _, value in pairs)


def _variant(text: str) -> tuple[str, Path]:
    kind, equals, path = text.partition("=")
    if kind not in VARIANT_KINDS or not equals or not path:
        raise typer.BadParameter(f"--variant is {text!r}; write KIND=RESULTS with one of {', '.join(VARIANT_KINDS)}")
    return kind, Path(path)


def _task_option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"--task-option is {text!r}; write NAME=VALUE")
    return name, yaml.safe_load(value)
