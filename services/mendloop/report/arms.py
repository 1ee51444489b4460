"""Control arms as a reader checks them: what each trained on, what it cost, and by how much the main arm differs.

Knows run views and lineage nodes of batches; knows no page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from mendloop.artifacts.store import ArtifactStore
from mendloop.report.batches import batch_document
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import ArmDifference
from mendloop.runs.values import Accuracy

Document = dict[str, Any]
AT_WORK = "at work"


def arm_documents(view: RunView, *, store: ArtifactStore) -> list[Document]:
    """Every control of every round, in order; empty where the recipe asked for none."""
    return [_document(view, part, store=store) for part in view.controls]


def arm_words(view: RunView) -> list[str]:
    """A line for each control of the newest round that has any: its result, or that it is at work."""
    last = max((part.number for part in view.controls), default=0)
    return [_words(part) for part in view.controls if part.number == last]


def _document(view: RunView, part: RoundView, *, store: ArtifactStore) -> Document:
    found = part.comparison
    return {
        "round": part.number,
        "arm": part.arm,
        "result": found.result if found else AT_WORK,
        "reason": found.reason if found else "",
        "batch": batch_document(part.batch, run_id=view.run_id, store=store) if part.batch else None,
        "checkpoint": found.checkpoint.sha256 if found and found.checkpoint else "",
        "main_checkpoint": found.main_checkpoint.sha256 if found and found.main_checkpoint else "",
        "example_count": found.example_count if found else part.added_count,
        "main_example_count": found.main_example_count if found else None,
        "train_tokens": found.train_token_count if found else None,
        "main_train_tokens": found.main_train_token_count if found else None,
        "differences": [_row(row) for row in found.differences] if found else [],
        "cost": asdict(part.cost),
    }


def _row(row: ArmDifference) -> Document:
    return {
        "slice": row.slice.name,
        "n": row.n,
        "main": _share(row.main),
        "control": _share(row.control),
        "difference": _share(row.main) - _share(row.control),
        "low": row.low,
        "high": row.high,
        "p_value": row.p_value,
    }


def _words(part: RoundView) -> str:
    found = part.comparison
    if found is None:
        return f"{part.arm}: {AT_WORK}"
    if found.result != "compared":
        return f"{part.arm}: {found.result.replace('_', ' ')}"
    return f"{part.arm}: {', '.join(_points(found.differences))}"


def _points(rows: Iterable[ArmDifference]) -> list[str]:
    """Of the targets, or of all items where these are the target."""
    everything, *targets = rows
    return [
        f"{row.slice.name} {100 * (_share(row.main) - _share(row.control)):+.1f}"
        f" [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        for row in targets or [everything]
    ]


def _share(accuracy: Accuracy) -> float:
    return accuracy.value or 0.0
