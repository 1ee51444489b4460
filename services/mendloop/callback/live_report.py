"""Writes what the evaluations of a training found: report.md for people, report.json for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mendloop.callback.live_evaluation import LiveResult


def write_report(folder: Path, results: Sequence[LiveResult], *, name: str, errors: Sequence[str]) -> Path:
    """Write both files anew; the path of the one for people."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"name": name, "evaluations": [asdict(result) for result in results], "errors": list(errors)}
    (folder / "report.json").write_text(json.dumps(document, indent=1))
    path = folder / "report.md"
    path.write_text(as_markdown(results, name=name, errors=errors))
    return path


def as_markdown(results: Sequence[LiveResult], *, name: str, errors: Sequence[str]) -> str:
    """A table of the evaluations and, below it, the errors."""
    rows = ["| step | accuracy | 95 % interval | items | weak slices | seconds |", "|---|---|---|---|---|---|"]
    for result in results:
        weak = "; ".join(f"{part.name} ({part.correct} of {part.n})" for part in result.weak) or "none"
        interval = f"{result.low:.1%} to {result.high:.1%}"
        rows.append(
            f"| {result.step} | {result.accuracy:.1%} | {interval} | {result.n} | {weak} | {result.wall_s:.1f} |"
        )
    failed = [f"{len(errors)} evaluation(s) failed:", *(f"- {error}" for error in errors)] if errors else []
    return "\n".join([f"# {name} while it trains", "", *rows, "", *failed]).rstrip() + "\n"
