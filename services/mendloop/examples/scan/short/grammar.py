"""Owns the language of short SCAN commands: prompts, completions in pieces, axes. Knows neither items nor models.

"hop left twice" means what "jump left twice" means. "lamp hop left" asks which lamp is lit at the end: first it is the
red one, and each action lights another one. It is worked as "I_TURN_LEFT pink I_JUMP white ; answer white".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from mendloop.core.records import Axes
from mendloop.examples.scan.axes import NONE, phrases
from mendloop.examples.scan.axes import annotate as scan_axes
from mendloop.examples.scan.grammar import CONJUNCTIONS, DIRECTIONS, MANNERS, PRIMITIVES, all_pairs, interpret
from mendloop.examples.scan.wording import UNUSUAL_WORDS, in_unusual_words, in_usual_words

MOST_ACTIONS = 6
LEFT_OUT = {"thrice", "around"}
SECOND_NAMES = {"stroll": "walk", "peek": "look", "dash": "run", "hop": "jump"}
STRANGERS = tuple(f"{first}{middle}x" for first in "bdfgklmn" for middle in "aeiou")
"""Verbs without a meaning of their own; they stand only where the prompt gives them one."""
KINDS = ("do", "lamp")
LAMPS = ("red", "green", "blue", "white", "pink")
NEXT_LAMPS = {
    "I_WALK": (1, 2, 3, 4, 0),
    "I_LOOK": (1, 0, 2, 4, 3),
    "I_RUN": (2, 0, 1, 4, 3),
    "I_JUMP": (3, 2, 1, 0, 4),
    "I_TURN_LEFT": (4, 3, 2, 1, 0),
    "I_TURN_RIGHT": (1, 0, 3, 4, 2),
}
"""Which lamp follows each one. The order of actions matters, so the answer cannot be told without its steps."""
ANSWER = "answer"
AXES = ("verb", "turn", "repetition", "conjunction", "kind", "wording")
_VERBS = {verb: verb for verb in (*PRIMITIVES, "turn")} | SECOND_NAMES
_WORDS = {*_VERBS, *STRANGERS, *DIRECTIONS, *MANNERS, "twice", *CONJUNCTIONS}


@dataclass(frozen=True, slots=True)
class Request:
    """A command, or the question which lamp is lit after it. given are meanings of verbs that the prompt states."""

    command: str
    kind: str = KINDS[0]
    given: Mapping[str, str] = field(default_factory=dict)
    is_unusual: bool = False

    @property
    def plain(self) -> str:
        """The command in SCAN's own verbs."""
        known = {**SECOND_NAMES, **self.given}
        return " ".join(known.get(word, word) for word in self.command.split())

    @property
    def prompt(self) -> str:
        """As a prompt says it."""
        stated = [meaning(verb, primitive) for verb, primitive in self.given.items()]
        said = in_unusual_words(self.plain) if self.is_unusual else self.command
        return " ".join((*stated, *([self.kind] if self.kind != KINDS[0] else []), said))


def meaning(verb: str, primitive: str) -> str:
    """How a prompt or a reference states what a verb means."""
    return f"{verb} is I_{primitive.upper()} ."


@cache
def plain_commands() -> tuple[str, ...]:
    """Every command of the grammar that is short enough, in the grammar's order."""
    fitting = (pair for pair in all_pairs() if not LEFT_OUT & set(pair.command.split()))
    return tuple(pair.command for pair in fitting if len(pair.actions.split()) <= MOST_ACTIONS)


def pieces(request: Request) -> tuple[str, ...]:
    """The right completion in pieces: the actions of each phrase, and the answer where a lamp is asked for."""
    parts, conjunction = phrases(request.plain)
    ordered = parts[::-1] if conjunction == "after" else parts
    groups = [interpret(part).split() for part in ordered]
    if request.kind == KINDS[0]:
        texts = [" ".join(group) for group in groups]
        return (*(f"{text} " for text in texts[:-1]), texts[-1])
    lit, lamp = [], 0
    for group in groups:
        text = ""
        for action in group:
            lamp = NEXT_LAMPS[action][lamp]
            text += f"{action} {LAMPS[lamp]} "
        lit.append(text)
    return (*lit, f"; {ANSWER} {LAMPS[lamp]}")


def completion(request: Request) -> str:
    """The right completion."""
    return "".join(pieces(request))


def read(prompt: str) -> Request | None:
    """The request in a prompt, whatever surrounds it; None where there is none.

    Case, punctuation and words outside the language are passed over; of several commands the longest counts.
    """
    words = in_usual_words(" ".join(re.findall(r"\w+", prompt.lower()))).split()
    is_unusual = any(other in prompt.lower().split() for other in UNUSUAL_WORDS.values())
    given: dict[str, str] = {}
    for verb, link, action in zip(words, words[1:], words[2:], strict=False):
        if link == "is" and action.removeprefix("i_") in PRIMITIVES:
            given[verb] = action.removeprefix("i_")
    command = _longest_command(words, given)
    if not command:
        return None
    return Request(command, "lamp" if "lamp" in words else "do", given, is_unusual)


def axes_of(request: Request) -> Axes:
    """Axis values of a request; verbs as the command says them."""
    parts = [part.split() for part in phrases(request.command)[0]]
    rest = scan_axes(request.plain)
    return {
        "verb": tuple(dict.fromkeys(part[0] for part in parts)),
        "turn": tuple(dict.fromkeys(_turn(part) for part in parts)),
        "repetition": rest["repetition"],
        "conjunction": rest["conjunction"],
        "kind": (request.kind,),
        "wording": ("unusual" if request.is_unusual else "usual",),
        "book": ("open" if request.given else "closed",),
    }


def _turn(words: Sequence[str]) -> str:
    """Manner and direction of a phrase."""
    return " ".join(word for word in words if word in (*MANNERS, *DIRECTIONS)) or NONE


def _longest_command(words: Sequence[str], given: Mapping[str, str]) -> str:
    best: list[str] = []
    for start in range(len(words)):
        end = start
        while end < len(words) and words[end] in _WORDS:
            end += 1
            if end - start > len(best) and _is_command(words[start:end], given):
                best = list(words[start:end])
    return " ".join(best)


def _is_command(words: Sequence[str], given: Mapping[str, str]) -> bool:
    try:
        return bool(interpret(Request(" ".join(words), given=given).plain))
    except ValueError:
        return False
