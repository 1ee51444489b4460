"""A run's view as rows: its line in the list, its slices and their scores. Pure; knows views and columns.

Rows are made of the whole view, so that they are the same whichever replica writes them and in whatever order its
events came.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field

from mendloop.gateway.adapters.event_rows import Row, micros, plain
from mendloop.gateway.domain.run_lines import line_of
from mendloop.runs.model import RunView
from mendloop.runs.parts import Diagnosis, Failure, RecipeFacts
from mendloop.runs.values import Accuracy, Slice, exact_accuracy

MOST_SEARCHED = 20_000
"""Characters of a run that a search looks at."""
TARGET_GATE = "target_improves"
"""The gate that counts a weak slice's items again on the candidate."""


def run_row(view: RunView, *, event_count: int) -> Row:
    """The run as a list shows it."""
    line = line_of(view)
    return {
        "run_id": line.run_id,
        "recipe": plain(line.recipe),
        "task": plain(line.task),
        "state": line.state,
        "stage": line.stage,
        "round": line.round,
        "outcome": line.outcome,
        "requested_by": plain(line.requested_by),
        "started_us": micros(line.started_at),
        "finished_us": micros(line.finished_at),
        "updated_us": micros(line.updated_at),
        "accuracy_before": line.accuracy_before,
        "accuracy_after": line.accuracy_after,
        "dead_letter_count": line.dead_letter_count,
        "cost": json.dumps(asdict(line.cost)),
        "summary": plain(line.summary),
        "search": _search(view),
        "facts": json.dumps(asdict(view.recipe)) if view.recipe else "",
        "event_count": event_count,
    }


def facts_of(text: str) -> RecipeFacts | None:
    """What the row remembers of the recipe; None where it was not read."""
    if not text:
        return None
    document = json.loads(text)
    return RecipeFacts(**{**document, "axes": tuple(document["axes"])})


def _search(view: RunView) -> str:
    """Words of the run in lower case, each once: who, what, how it ended, weak slices and their causes."""
    words = [view.run_id, view.recipe_name, view.outcome, view.summary]
    words += [view.recipe.task] if view.recipe else []
    words += [view.request.requested_by] if view.request else []
    words += [failure.slice.name for part in view.rounds for failure in part.failures]
    words += [diagnosis.cause for part in view.rounds for diagnosis in part.diagnoses]
    return plain("\n".join(dict.fromkeys(word for word in words if word)).lower())[:MOST_SEARCHED]


@dataclass(slots=True)
class _Told:
    """What the rounds say of one slice."""

    slice: Slice
    points: dict[tuple[int, str], Accuracy] = field(default_factory=dict)
    weak: dict[tuple[int, str], Failure] = field(default_factory=dict)
    verdicts: dict[tuple[int, str], Diagnosis] = field(default_factory=dict)

    @property
    def is_weak_now(self) -> bool:
        """By the newest round that measured it."""
        places = [*self.points, *self.weak]
        return bool(places) and max(places) in self.weak

    @property
    def verdict(self) -> Diagnosis | None:
        """The newest one, of the main arm where that has any."""
        main = [place for place in self.verdicts if not place[1]]
        return self.verdicts[max(main or self.verdicts)] if self.verdicts else None


def slice_rows(view: RunView, *, touched: Collection[str]) -> tuple[list[Row], list[Row]]:
    """Rows of the touched slices for gateway_slices and gateway_slice_scores."""
    told = _told(view)
    found = [(plain(one.slice.slice_id), one) for one in told.values()]
    chosen = [(slice_id, one) for slice_id, one in found if slice_id in touched]
    run_id = plain(view.run_id)
    return (
        [_slice(run_id, slice_id, one) for slice_id, one in chosen],
        [row for slice_id, one in chosen for row in _scores(run_id, slice_id, one)],
    )


def _told(view: RunView) -> dict[str, _Told]:
    told: dict[str, _Told] = {}
    for part in view.rounds:
        place = (part.number, part.arm)
        for score in part.evaluation.slices if part.evaluation else ():
            told.setdefault(score.slice.slice_id, _Told(score.slice)).points[place] = score.accuracy
        for failure in part.failures:
            one = told.setdefault(failure.slice.slice_id, _Told(failure.slice))
            one.weak[place] = failure
            one.points.setdefault(place, failure.both)
            for point in failure.trend:
                one.points.setdefault((point.round, "" if point.round == 0 else part.arm), point.accuracy)
        for diagnosis in part.diagnoses:
            told.setdefault(diagnosis.slice.slice_id, _Told(diagnosis.slice)).verdicts[place] = diagnosis
        for gate in part.decision.gates if part.decision else ():
            known = told.get(gate.slice.slice_id)
            if known is not None and known.weak and gate.gate == TARGET_GATE and gate.n:
                known.points.setdefault(place, exact_accuracy(round(gate.after * gate.n), gate.n))
    return told


def _slice(run_id: str, slice_id: str, one: _Told) -> Row:
    verdict = one.verdict
    return {
        "run_id": run_id,
        "slice_id": slice_id,
        "definition": plain(one.slice.name),
        "conditions": json.dumps(one.slice.conditions),
        "is_weak": bool(one.weak),
        "is_weak_now": one.is_weak_now,
        "cause": verdict.cause if verdict else "",
        "confidence": verdict.confidence if verdict else None,
    }


def _scores(run_id: str, slice_id: str, one: _Told) -> Iterator[Row]:
    for place, accuracy in one.points.items():
        verdict = one.verdicts.get(place)
        yield {
            "run_id": run_id,
            "slice_id": slice_id,
            "round": place[0],
            "arm": plain(place[1]),
            "n": accuracy.n,
            "correct": accuracy.correct,
            "low": accuracy.low,
            "high": accuracy.high,
            "is_weak": place in one.weak,
            "cause": verdict.cause if verdict else "",
            "confidence": verdict.confidence if verdict else None,
        }
