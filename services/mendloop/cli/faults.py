"""`mend faults`: the catalogue of planted faults, and planting them. Knows options, words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mendloop.cli.screen import output
from mendloop.core.stats import clopper_pearson
from mendloop.core.wire import slice_name

if TYPE_CHECKING:
    from mendloop.examples.faults.planting import Planted

faults_app = typer.Typer(
    help="Faults with a known cause, planted into small trainings and evaluations: to test a diagnosis, or to learn "
    "what each cause looks like.",
    epilog="`mend faults list` shows what there is, `mend faults plant missing --family facts --out case` plants one "
    "in about twenty seconds, `mend diagnose case` says what it finds, and case/planted.json what it should have been.",
    no_args_is_help=True,
)
console = output()
HEALTHY = "healthy"


@faults_app.command("list")
def list_faults(
    measured: Annotated[
        Path | None, typer.Option(help="Folder of planted cases: show each fault's accuracy before and after instead.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Show every fault: its cause, what is done, what its severity means, and in which families it can be planted."""
    names, rows = _measured(measured) if measured else _catalogue()
    if markdown:
        typer.echo(_as_markdown(names, rows))
        return
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


@faults_app.command("plant")
def plant_fault(
    name: Annotated[str, typer.Argument(help="A fault's name or its cause, as `mend faults list` shows them.")],
    out: Annotated[Path, typer.Option(help="The case folder to write; one that holds the same case is kept.")],
    family: Annotated[str, typer.Option(help="Task family: scan, modular or facts.")] = "facts",
    severity: Annotated[float, typer.Option(help="Above 0, at most 1; `mend faults list` says what it means.")] = 0.75,
    seed: Annotated[int, typer.Option(help="Seed of data, training, slice and fault.")] = 0,
    also: Annotated[list[str] | None, typer.Option("--and", help="A second fault beside it; may be repeated.")] = None,
    healthy: Annotated[
        Path | None, typer.Option(help="Folder that keeps healthy checkpoints; default: beside the case folder.")
    ] = None,
) -> None:
    """Plant a fault, train, evaluate, and write a case folder: case.json for `mend diagnose`, the truth beside it."""
    from mendloop.examples.faults.planning import Planting, Spec  # seconds of imports
    from mendloop.examples.faults.planting import plant
    from mendloop.examples.faults.registry import find_family

    spec = Spec(family, tuple(Planting(one, severity) for one in (name, *(also or []))), seed)
    with console.status("planning") as status:
        planted = plant(
            find_family(family),
            spec,
            out_dir=out,
            cache=healthy or out.resolve().parent / HEALTHY,
            on_stage=lambda stage: status.update(f"{stage} ({family}, seed {seed})"),
        )
    for line in _told(planted):
        console.print(Text(line), soft_wrap=True)
    console.print(f"next: [bold]mend diagnose {out}[/bold]; the truth is in {out / 'planted.json'}", soft_wrap=True)


def _told(planted: Planted) -> list[str]:
    low, high = planted.accuracy_interval
    lines = [f"{fault['name']}: {fault['cause']}, severity {fault['severity']}" for fault in planted.faults]
    lines.append(
        f"{slice_name(planted.conditions)}: {planted.healthy_accuracy:.1%} when healthy, {planted.accuracy:.1%} now "
        f"(95 % interval {low:.1%} to {high:.1%}, n = {planted.n}); {planted.wall_s:.0f} s"
    )
    if not planted.bites:
        lines.append(f"It does not bite: {planted.why_not}. Raise the severity, or take another seed.")
    return lines


def _catalogue() -> tuple[Sequence[str], list[Sequence[str]]]:
    from mendloop.examples.faults.catalogue import FAULTS
    from mendloop.examples.faults.registry import FAMILIES, find_family

    families = [find_family(name) for name in FAMILIES]
    rows = [
        (
            fault.name,
            fault.cause.value,
            fault.side.value.lower(),
            fault.does,
            fault.severity,
            ", ".join(family.traits.name for family in families if fault.places(family, seed=0)),
        )
        for fault in FAULTS
    ]
    return ("fault", "cause", "side", "what is done", "severity", "families"), list(rows)


def _measured(folder: Path) -> tuple[Sequence[str], list[Sequence[str]]]:
    """One row a fault: for each family the accuracy of the slice when healthy and with the fault, over all seeds."""
    from mendloop.examples.faults.catalogue import FAULTS
    from mendloop.examples.faults.planting import read_planted

    found = [planted for path in sorted(folder.iterdir()) if (planted := read_planted(path)) is not None]
    single = [planted for planted in found if len(planted.faults) == 1]
    families = sorted({planted.family for planted in single})
    rows = [
        (fault.name, fault.cause.value, *(_cell(_of(single, fault.name, family)) for family in families))
        for fault in FAULTS
    ]
    return ("fault", "cause", *families), list(rows)


def _of(found: Iterable[Planted], fault: str, family: str) -> list[Planted]:
    return [one for one in found if one.family == family and one.faults[0]["name"] == fault]


def _cell(cases: Sequence[Planted]) -> str:
    """As "1.00 → 0.28 (0.17–0.42)", the interval of all items as one; and how many of the cases bite."""
    if not cases:
        return "not planted"
    n, correct = sum(one.n for one in cases), sum(one.correct for one in cases)
    low, high = clopper_pearson(correct, n)
    before = sum(one.healthy_correct for one in cases) / n
    bites = sum(one.bites for one in cases)
    text = f"{before:.2f} → {correct / n:.2f} ({low:.2f}–{high:.2f})"
    if bites < len(cases):
        text += f", bites {bites} of {len(cases)}"
    return text


def _as_markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
