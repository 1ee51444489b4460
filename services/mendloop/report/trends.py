"""The trend of a slice over a run's checkpoints: the items that it has, followed by id from round to round.

Knows run views and the outcomes they point to; knows no page.
"""

from __future__ import annotations

import json
from typing import Any

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.records import Outcome
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import Failure
from mendloop.runs.values import Accuracy, exact_accuracy

SLICES = "slices"
"""Namespace in which the evaluator stores slices, with their items."""
Document = dict[str, Any]
Right = dict[str, bool]


def trends_of(view: RunView, *, store: ArtifactStore) -> list[Document]:
    """Each slice that was ever weak, as it was last found, with its accuracy in every round of its arm.

    Earlier rounds are those that the event tells; later ones, in which the slice may be weak no more, are counted over
    the stored slice's items. A slice with one point has no trend and is left out.
    """
    last: dict[tuple[str, str], tuple[RoundView, Failure]] = {}
    for part in view.rounds:
        last.update({(failure.slice.slice_id, part.arm): (part, failure) for failure in part.failures})
    read: dict[str, Right] = {}
    found = [_trend(view, part, failure, store=store, read=read) for part, failure in last.values()]
    return [trend for trend in found if len(trend["points"]) > 1]


def _trend(
    view: RunView, part: RoundView, failure: Failure, *, store: ArtifactStore, read: dict[str, Right]
) -> Document:
    points = {point.round: point.accuracy for point in failure.trend}
    points[part.number] = failure.both
    ids = _item_ids(failure, store=store)
    for other in view.rounds:
        if ids and other.number not in points and other.arm in ("", part.arm):
            measured = _accuracy(other, ids, store=store, read=read)
            if measured is not None:
                points[other.number] = measured
    arm = f" (arm {part.arm})" if part.arm else ""
    return {
        "slice": f"{failure.slice.name}{arm}",
        "version": failure.slice_version,
        "threshold": failure.threshold,
        "points": [{"round": number, **_estimate(points[number])} for number in sorted(points)],
    }


def _item_ids(failure: Failure, *, store: ArtifactStore) -> list[str]:
    """Items of the slice at its version; none where no evaluator stored it."""
    if not failure.slice_version:
        return []
    raw = store.get_doc(f"{SLICES}/{failure.slice.slice_id}", failure.slice_version)
    return list(json.loads(raw)["item_ids"]) if raw is not None else []


def _accuracy(part: RoundView, ids: list[str], *, store: ArtifactStore, read: dict[str, Right]) -> Accuracy | None:
    if part.evaluation is None or part.evaluation.outcomes is None:
        return None
    artifact = part.evaluation.outcomes
    if artifact.sha256 not in read:
        rows = get_rows(store, artifact, kind=Outcome)
        read[artifact.sha256] = {row.item_id: row.is_correct for row in rows}
    right = read[artifact.sha256]
    found = [right[item_id] for item_id in ids if item_id in right]
    return exact_accuracy(sum(found), len(found)) if found else None


def _estimate(accuracy: Accuracy) -> Document:
    return {"accuracy": accuracy.value or 0.0, "n": accuracy.n, "low": accuracy.low, "high": accuracy.high}
