"""A run view as JSON values: times in RFC 3339, accuracies with n and interval."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime

from mendloop.artifacts.store import Artifact
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.stages import seconds_by_stage, stage_of, stage_times, state_of
from mendloop.runs.values import UNKNOWN_TIME, Accuracy, Stamp


def to_document(view: RunView, *, now: datetime | None = None) -> dict[str, object]:
    """The whole view. With now, a stage that works counts up to then."""
    return {
        **to_summary(view),
        "request": _json(view.request),
        "recipe_facts": _json(view.recipe),
        "cancellation": _json(view.cancellation),
        "steerings": _json(view.steerings),
        "rollbacks": _json(view.rollbacks),
        "finish": _json(view.finish),
        "rounds": [_round(part) for part in view.rounds],
        "budget_stops": _json(view.budget_stops),
        "dead_letters": _json(view.dead_letters),
        "seconds_by_stage": seconds_by_stage(view, now=now),
        "stages": [
            {
                "stage": time.stage,
                "round": time.round,
                "arm": time.arm,
                "started_at": _json(time.started_at),
                "ended_at": _json(time.ended_at),
                "seconds": time.seconds(now=now),
            }
            for time in stage_times(view)
        ],
    }


def to_summary(view: RunView) -> dict[str, object]:
    """What a list of runs shows of one."""
    return {
        "run_id": view.run_id,
        "recipe": view.recipe_name,
        "state": state_of(view),
        "stage": stage_of(view),
        "round": view.current_round,
        "started_at": _json(view.started_at),
        "finished_at": _json(view.finished_at),
        "updated_at": _json(view.last_at),
        "outcome": view.outcome,
        "summary": view.summary,
        "dead_letter_count": len(view.dead_letters),
        "cost": _json(view.cost),
    }


def _round(part: RoundView) -> dict[str, object]:
    return {
        "round": part.number,
        "arm": part.arm,
        "approval": {"question": _json(part.question), "answer": _json(part.answer)} if part.question else None,
        "plan": _json(part.plan),
        "batch": _json(part.batch),
        "review": {"question": _json(part.review_question), "answer": _json(part.review_answer)}
        if part.review_question
        else None,
        "reviewed": _json(part.reviewed),
        "checkpoint": _json(part.checkpoint),
        "training_failure": _json(part.training_failure),
        "shards": {"done": part.shards_done, "total": part.shard_count},
        "evaluation": _json(part.evaluation),
        "failures": _json(part.failures),
        "diagnoses": _json(part.diagnoses),
        "decision": _json(part.decision),
        "comparison": _json(part.comparison),
        "cost": _json(part.cost),
    }


def _json(value: object) -> object:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime):
        return None if value == UNKNOWN_TIME else value.isoformat()
    if isinstance(value, Stamp):
        return {"at": _json(value.at), "event_id": value.event_id}
    if isinstance(value, Artifact):
        return {"uri": value.uri, "sha256": value.sha256, "byte_count": value.byte_count}
    if isinstance(value, Accuracy):
        return {"accuracy": value.value, "n": value.n, "correct": value.correct, "low": value.low, "high": value.high}
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    assert is_dataclass(value), f"{type(value).__name__} has no place in a view"
    return {field.name: _json(getattr(value, field.name)) for field in fields(value)}
