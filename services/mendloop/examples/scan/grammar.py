"""Owns SCAN's grammar and interpreter: every command, its actions, its splits. Knows neither models nor files.

The phrase-structure grammar of Lake & Baroni 2018 (arXiv:1711.00350, appendix) yields 20,910 commands.
"""

from __future__ import annotations

from dataclasses import dataclass

PRIMITIVES = ("walk", "look", "run", "jump")
DIRECTIONS = ("left", "right")
MANNERS = ("opposite", "around")
REPETITIONS = {"twice": 2, "thrice": 3}
CONJUNCTIONS = ("and", "after")


@dataclass(frozen=True, slots=True)
class ScanPair:
    """One command and the actions that it means, both as space-separated words."""

    command: str
    actions: str


def _verb_phrases() -> list[str]:
    verbs = (*PRIMITIVES, "turn")
    directed = [f"{verb} {direction}" for verb in verbs for direction in DIRECTIONS]
    mannered = [f"{verb} {manner} {direction}" for verb in verbs for manner in MANNERS for direction in DIRECTIONS]
    return [*PRIMITIVES, *directed, *mannered]


def commands() -> list[str]:
    """All 20,910 commands of the grammar, in one fixed order."""
    phrases = [phrase + suffix for phrase in _verb_phrases() for suffix in ("", " twice", " thrice")]
    joined = [f"{left} {word} {right}" for word in CONJUNCTIONS for left in phrases for right in phrases]
    return [*phrases, *joined]


def interpret(command: str) -> str:
    """The actions that a command means. Raises ValueError for a command outside the grammar."""
    words = command.split()
    return " ".join(_sentence(words, command=command))


def _sentence(words: list[str], *, command: str) -> list[str]:
    for word in CONJUNCTIONS:
        if word in words:
            at = words.index(word)
            left = _repeated(words[:at], command=command)
            right = _repeated(words[at + 1 :], command=command)
            return left + right if word == "and" else right + left
    return _repeated(words, command=command)


def _repeated(words: list[str], *, command: str) -> list[str]:
    if words and words[-1] in REPETITIONS:
        return _phrase(words[:-1], command=command) * REPETITIONS[words[-1]]
    return _phrase(words, command=command)


def _phrase(words: list[str], *, command: str) -> list[str]:
    if not words or words[0] not in (*PRIMITIVES, "turn"):
        raise ValueError(f"not a SCAN command: {command!r}: a phrase starts with {', '.join(PRIMITIVES)} or turn")
    act = [] if words[0] == "turn" else [f"I_{words[0].upper()}"]
    match words[1:]:
        case [] if act:
            return act
        case [direction] if direction in DIRECTIONS:
            return [f"I_TURN_{direction.upper()}", *act]
        case ["opposite", direction] if direction in DIRECTIONS:
            return [f"I_TURN_{direction.upper()}"] * 2 + act
        case ["around", direction] if direction in DIRECTIONS:
            return [f"I_TURN_{direction.upper()}", *act] * 4
        case rest:
            raise ValueError(f"not a SCAN command: {command!r}: {' '.join(rest)!r} cannot follow {words[0]!r}")


def all_pairs() -> list[ScanPair]:
    """Every command of the grammar with its actions: 20,910 pairs."""
    return [ScanPair(command, interpret(command)) for command in commands()]


def is_composed(command: str, *, primitive: str) -> bool:
    """Whether the command uses the primitive in any phrase other than the bare word alone."""
    return primitive in command.split() and command != primitive


def split_add_primitive(primitive: str = "jump") -> tuple[list[ScanPair], list[ScanPair]]:
    """The add-primitive split (train, test): training has the primitive only alone, test has it composed.

    The published file repeats the bare primitive so that it is a tenth of training; here every pair stands once.
    """
    pairs = all_pairs()
    train = [pair for pair in pairs if not is_composed(pair.command, primitive=primitive)]
    test = [pair for pair in pairs if is_composed(pair.command, primitive=primitive)]
    return train, test
