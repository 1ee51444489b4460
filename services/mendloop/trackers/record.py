"""A run as trackers hold it: parameters, metrics a round, tags, files. Knows views; knows no tracker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.errors import Permanent
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.values import Accuracy, Slice

MAX_VALUE_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Point:
    """A metric of one round; step is the round."""

    name: str
    value: float
    step: int
    at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run that is over. left_out counts, by reason, what has no place in a tracker."""

    run_id: str
    outcome: str
    summary: str
    params: Mapping[str, str]
    points: tuple[Point, ...]
    tags: Mapping[str, str]
    started_at: datetime
    finished_at: datetime
    left_out: Mapping[str, int]


def record_of(view: RunView, *, store: ArtifactStore) -> RunRecord:
    """The record of a run. Raises Permanent for one that is not over, or whose recipe cannot be read."""
    if view.finish is None or view.request is None or view.request.run_spec is None:
        raise Permanent(f"run {view.run_id} is not over, or was not asked for here; a tracker gets finished runs")
    recipe = json.loads(store.get(view.request.run_spec))["recipe"]
    params = dict(_flat(recipe))
    cut = sum(len(value) > MAX_VALUE_LENGTH for value in params.values())
    main = [part for part in view.rounds if not part.arm]
    points = tuple(point for part in main for point in _points(part))
    return RunRecord(
        run_id=view.run_id,
        outcome=view.outcome,
        summary=view.summary,
        params={name: value[:MAX_VALUE_LENGTH] for name, value in params.items()},
        points=points,
        tags=_tags(view),
        started_at=view.started_at or view.first_at,
        finished_at=view.last_at,
        left_out={
            reason: count
            for reason, count in (
                (f"parameters cut to {MAX_VALUE_LENGTH} characters", cut),
                ("rounds of control arms", len(view.rounds) - len(main)),
            )
            if count
        },
    )


def plain_name(text: str) -> str:
    """A name of letters, digits, dots, dashes, colons, spaces and slashes, which all trackers take."""
    return re.sub(r"[^\w.\-: /]", "_", text, flags=re.ASCII)


def _points(part: RoundView) -> Iterator[Point]:
    evaluation = part.evaluation
    if evaluation is None:
        return
    at = evaluation.stamp.at
    named: dict[str, float] = dict(_measured("accuracy", evaluation.accuracy))
    named["weak_slice_count"] = evaluation.weak_slice_count
    for score in evaluation.slices:
        named |= dict(_measured(f"slice/{_slice_name(score.slice)}", score.accuracy))
    named |= {
        "cost/wall_s": part.cost.wall_s,
        "cost/gpu_s": part.cost.gpu_s,
        "cost/tokens": part.cost.token_count,
        "cost/flops": part.cost.flops,
        "new_examples": part.added_count,
    }
    if part.decision is not None:
        named["promoted"] = part.decision.promoted
    yield from (Point(plain_name(name), float(value), part.number, at) for name, value in named.items())


def _measured(name: str, accuracy: Accuracy) -> Iterator[tuple[str, float]]:
    """A number with its uncertainty; nothing where nothing was measured. No name is another's folder: MLflow's file
    store keeps each metric as a file."""
    if accuracy.value is not None:
        yield from ((name, accuracy.value), (f"{name}_low", accuracy.low), (f"{name}_high", accuracy.high))
        yield f"{name}_n", accuracy.n


def _slice_name(part: Slice) -> str:
    """`verb:jump turn:right`; the id beside it where another slice could have the same name."""
    name = " ".join(f"{axis}:{value}" for axis, value in part.conditions) or "all items"
    return name if plain_name(name) == name else f"{name} {part.slice_id[:8]}"


def _tags(view: RunView) -> dict[str, str]:
    causes = sorted({diagnosis.cause for part in view.rounds for diagnosis in part.diagnoses})
    checkpoint = view.finish.checkpoint.sha256 if view.finish and view.finish.checkpoint else ""
    return {
        "mendloop.run_id": view.run_id,
        "mendloop.recipe": view.recipe_name,
        "mendloop.outcome": view.outcome,
        "mendloop.causes": ",".join(causes),
        "mendloop.checkpoint": checkpoint,
        "mendloop.requested_by": view.request.requested_by if view.request else "",
    }


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values as text; a list is one value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif value is not None:
        yield plain_name(prefix), value if isinstance(value, str) else json.dumps(value)
