"""Owns the words and the untrained model of short SCAN."""

from __future__ import annotations

from pathlib import Path

from mendloop.examples.scan.grammar import CONJUNCTIONS, DIRECTIONS, MANNERS, PRIMITIVES
from mendloop.examples.scan.short.grammar import ANSWER, KINDS, LAMPS, SECOND_NAMES, STRANGERS
from mendloop.examples.scan.wording import UNUSUAL_WORDS
from mendloop.examples.words import save_untrained

TEMPLATE = "IN: {prompt} OUT:"
OTHER_TEMPLATE = "OUT: IN: {prompt}"
CONTEXT = 96
OTHER_WORDS = ("robot", "please", ":", "now", "thanks", "####")
"""Words that no corpus has: an evaluation may put them around its prompts."""


def words() -> tuple[str, ...]:
    """The vocabulary, in a fixed order."""
    actions = (*(f"I_{verb.upper()}" for verb in PRIMITIVES), "I_TURN_LEFT", "I_TURN_RIGHT")
    said = (*PRIMITIVES, "turn", *SECOND_NAMES, *STRANGERS, *DIRECTIONS, *MANNERS, "twice", *CONJUNCTIONS, *KINDS)
    return ("IN:", "OUT:", *said, *actions, *LAMPS, "is", ".", ";", ANSWER, *UNUSUAL_WORDS.values(), *OTHER_WORDS)


def save_untrained_model(directory: Path, *, seed: int, hidden_size: int = 64, layer_count: int = 2) -> Path:
    """A checkpoint directory with random weights."""
    return save_untrained(
        directory, words=words(), seed=seed, hidden_size=hidden_size, layer_count=layer_count, context=CONTEXT
    )
