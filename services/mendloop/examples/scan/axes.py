"""Owns the axes of SCAN commands: what a command is made of, read from its words alone.

Knows the grammar; knows neither items nor models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from mendloop.core.records import Axes
from mendloop.examples.scan.grammar import CONJUNCTIONS, DIRECTIONS, MANNERS, REPETITIONS, all_pairs, interpret

AXES = ("verb", "direction", "manner", "repetition", "conjunction", "length")
NONE = "none"
LENGTHS = ((7, "1-7"), (13, "8-13"), (20, "14-20"))
"""Upper bounds of the buckets of output length, in actions; a fifth to a third of the grammar lies in each."""
LONGEST = "21-48"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the grammar with its actions and its axis values."""

    command: str
    actions: str
    axes: Axes


@cache
def annotated_commands() -> tuple[Command, ...]:
    """Every command of the grammar, in the grammar's order."""
    return tuple(
        Command(pair.command, pair.actions, _axes(pair.command, len(pair.actions.split()))) for pair in all_pairs()
    )


def annotate(command: str) -> Axes:
    """Axis values of a command; none at all where the text is no SCAN command.

    A command of two phrases has the values of both: "walk left and jump" has the verbs walk and jump, and the
    directions left and none.
    """
    try:
        length = len(interpret(command).split())
    except ValueError:
        return {}
    return _axes(command, length)


def phrases(command: str) -> tuple[tuple[str, ...], str]:
    """The one or two verb phrases of a command, and the conjunction between them ("none" where there is one)."""
    words = command.split()
    for word in CONJUNCTIONS:
        if word in words:
            at = words.index(word)
            return (" ".join(words[:at]), " ".join(words[at + 1 :])), word
    return (" ".join(words),), NONE


def _axes(command: str, length: int) -> Axes:
    parts, conjunction = phrases(command)
    words = [part.split() for part in parts]
    return {
        "verb": _distinct([part[0] for part in words]),
        "direction": _distinct([_one_of(part, DIRECTIONS) for part in words]),
        "manner": _distinct([_one_of(part, MANNERS) for part in words]),
        "repetition": _distinct([_one_of(part, tuple(REPETITIONS)) for part in words]),
        "conjunction": (conjunction,),
        "length": (next((name for bound, name in LENGTHS if length <= bound), LONGEST),),
    }


def _one_of(words: list[str], values: tuple[str, ...]) -> str:
    return next((word for word in words if word in values), NONE)


def _distinct(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
