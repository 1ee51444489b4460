"""What `mend diagnose` does once its options are read: open the case, probe, judge, print, draw the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mendloop.cli.screen import output
from mendloop.core.tasks import Conditions
from mendloop.diagnostician.adapters.case_folder import CASE_FILE, CaseContents, CaseFiles, case_files, read_case
from mendloop.diagnostician.adapters.judging import Judging, shipped_judging
from mendloop.diagnostician.adapters.probe_set import all_probes
from mendloop.diagnostician.adapters.standalone import Bench, Document, as_document, diagnose, slice_words


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for beside the files. No slices: the weak ones that the results show."""

    slices: Sequence[Conditions]
    max_slices: int
    all_probes: bool
    html: Path | None
    as_json: bool


def diagnose_files(source: Path, *, given: dict[str, Any], wish: Wish) -> None:
    """Diagnose and print. given: fields of CaseFiles; they go before what a case folder says."""
    is_folder = (source / CASE_FILE).is_file()
    files = replace(case_files(source) if is_folder else CaseFiles(outcomes=source), **given)
    contents = read_case(files)
    screen = Console(stderr=True)
    chosen = wish.slices or list(contents.slices)
    judging = shipped_judging()
    verdicts = _verdicts(contents, chosen[: wish.max_slices], judging=judging, wish=wish, console=screen)
    remarks = [
        _known(files),
        f"judged {judging.description}",
        *(f"{what}: {count}" for what, count in contents.notes.items()),
    ]
    if len(chosen) > wish.max_slices:
        remarks.append(f"weak slices left out: {len(chosen) - wish.max_slices}; raise --max-slices")
    if wish.html is not None:
        from mendloop.report.diagnosis_page import render_diagnosis  # needs the extra [report]; a table does not

        page = render_diagnosis(verdicts, title=f"Diagnosis of {source.name}", subtitle=remarks[0], remarks=remarks[1:])
        wish.html.write_text(page, encoding="utf-8")
        screen.print(f"wrote {wish.html}", soft_wrap=True)
    if wish.as_json:
        print(json.dumps({"verdicts": verdicts, "remarks": remarks}, indent=1, ensure_ascii=False))
        return
    _print(verdicts, remarks, console=output())


def _known(files: CaseFiles) -> str:
    """What the diagnosis could look at, and what it could not."""
    parts = {
        "model": files.model,
        "corpus": files.corpus,
        "start checkpoint": files.start,
        "training report": files.training_report,
        "task": files.task_name,
        "variants": files.variants,
    }
    there = [name for name, part in parts.items() if part]
    absent = [name for name, part in parts.items() if not part]
    return f"looked at: outcomes{''.join(f', {name}' for name in there)}; not given: {', '.join(absent) or 'nothing'}"


def _verdicts(
    contents: CaseContents, chosen: Sequence[Conditions], *, judging: Judging, wish: Wish, console: Console
) -> list[Document]:
    if all(row.is_correct for row in contents.outcomes):
        console.print(f"all {len(contents.outcomes)} outcomes are right: there is nothing to explain")
        return []
    is_clear = (lambda rows: False) if wish.all_probes else judging.is_clear
    bench = Bench(all_probes(), judging.judge, is_clear, judging.choose)
    found = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("diagnosing", total=len(chosen))
        for conditions in chosen:
            progress.update(bar, description=f"diagnosing {slice_words(conditions)}")
            found.append(as_document(diagnose(contents.case(conditions), bench=bench), contents=contents))
            progress.advance(bar)
    return found


def _print(verdicts: Sequence[Document], remarks: Sequence[str], *, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("slice", overflow="fold")
    for name in ("failed", "accuracy", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    table.add_column("confidence", justify="right")
    for verdict in verdicts:
        low, high = verdict["accuracy_interval"]
        style = "yellow" if verdict["cause"] == "UNKNOWN" else ""
        table.add_row(
            Text(verdict["slice"]),
            f"{verdict['failed_count']} of {verdict['n']}",
            f"{verdict['accuracy']:.3f}",
            f"{low:.3f} to {high:.3f}",
            " + ".join((verdict["cause"], *verdict["also"])),
            f"{verdict['confidence']:.2f}",
            style=style,
        )
    if verdicts:
        console.print(table)
    for verdict in verdicts:
        console.print(Text(f"\n{verdict['slice']}: {verdict['cause']}", style="bold"))
        console.print(Text(verdict["summary"]))
        for proposal in verdict["interventions"]:
            console.print(Text(f"→ {proposal['rationale']} {' '.join(proposal['fixes'])}".rstrip()))
    for remark in remarks:
        console.print(Text(remark, style="dim"))
