"""Owns other words for SCAN's words, and what each word means. Knows no items and no model."""

from __future__ import annotations

from mendloop.examples.scan.grammar import PRIMITIVES

UNUSUAL_WORDS = {
    "walk": "march",
    "look": "gaze",
    "run": "sprint",
    "jump": "leap",
    "turn": "rotate",
    "twice": "doubly",
    "thrice": "triply",
}
"""Synonyms outside the grammar."""
MEANINGS = {
    **{verb: f"I_{verb.upper()}" for verb in PRIMITIVES},
    "turn": "nothing but the turns beside it",
    "left": "I_TURN_LEFT",
    "right": "I_TURN_RIGHT",
    "opposite": "turn two times",
    "around": "four times a turn and then the act",
    "twice": "two times",
    "thrice": "three times",
    "and": "first what stands before it",
    "after": "first what stands after it",
}
_USUAL = {other: word for word, other in UNUSUAL_WORDS.items()}


def in_usual_words(text: str) -> str:
    """The text with every synonym as the grammar says it."""
    return " ".join(_USUAL.get(word, word) for word in text.split())


def in_unusual_words(text: str) -> str:
    """The text with synonyms from outside the grammar."""
    return " ".join(UNUSUAL_WORDS.get(word, word) for word in text.split())


def glossary(text: str) -> str:
    """What each word of a command means."""
    return " ".join(f"{word} is {MEANINGS[word]} ." for word in dict.fromkeys(text.split()) if word in MEANINGS)
