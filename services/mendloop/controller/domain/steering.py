"""What people ask of a run: pause, resume, roll back. Knows times; knows not what a run does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What a person does with a run; the names of mendloop.v1.SteeringAction in lower case."""

    PAUSE = "pause"
    RESUME = "resume"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Steering:
    """What a person asked of the run, in the order of asking."""

    number: int
    action: Action
    steered_by: str
    reason: str
    given_at: float


def is_paused(steerings: Sequence[Steering]) -> bool:
    """Whether the last pause was not followed by a resume."""
    asked = [steering.action for steering in _ordered(steerings) if steering.action is not Action.ROLL_BACK]
    return bool(asked) and asked[-1] is Action.PAUSE


def paused_s(steerings: Sequence[Steering], *, now: float) -> float:
    """Seconds in which the run was paused, up to now."""
    held, since = 0.0, None
    for steering in _ordered(steerings):
        if steering.action is Action.PAUSE and since is None:
            since = steering.given_at
        elif steering.action is Action.RESUME and since is not None:
            held, since = held + steering.given_at - since, None
    return held if since is None else held + now - since


def _ordered(steerings: Sequence[Steering]) -> list[Steering]:
    return sorted(steerings, key=lambda steering: steering.number)
