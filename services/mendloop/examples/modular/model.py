"""Owns the words and the untrained model of modular arithmetic."""

from __future__ import annotations

from pathlib import Path

from mendloop.examples.modular.grammar import (
    ANSWER,
    CONSTANTS,
    NUMBERS,
    OPENINGS,
    OPERATIONS,
    UNUSUAL_OPENING,
    UNUSUAL_WORDS,
    VARIABLES,
)
from mendloop.examples.words import save_untrained

TEMPLATE = "Q: {prompt} A:"
OTHER_TEMPLATE = "A: Q: {prompt}"
CONTEXT = 96
OTHER_WORDS = ("exercise", "please", "solve", ":", "thanks", "####")
"""Words that no corpus has: an evaluation may put them around its prompts."""


def words() -> tuple[str, ...]:
    """The vocabulary, in a fixed order."""
    openings = (word for opening in OPENINGS.values() for word in opening.split())
    own = ("Q:", "A:", *NUMBERS, *OPERATIONS, "is", ".", ";", ANSWER, *CONSTANTS, *VARIABLES, *openings)
    return (*own, UNUSUAL_OPENING, *UNUSUAL_WORDS.values(), *OTHER_WORDS)


def save_untrained_model(directory: Path, *, seed: int, hidden_size: int = 64, layer_count: int = 2) -> Path:
    """A checkpoint directory with random weights."""
    return save_untrained(
        directory, words=words(), seed=seed, hidden_size=hidden_size, layer_count=layer_count, context=CONTEXT
    )
