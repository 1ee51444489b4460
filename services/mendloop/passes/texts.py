"""When two texts say almost the same: the one definition that the funnel and the corpus passes share.

Two examples are alike where the Jaccard similarity of their prompts' word trigrams, padded at both ends, reaches the
threshold and their answers are the same.
"""

from __future__ import annotations

import re

SHINGLE_WORDS = 3
THRESHOLD = 0.8
MISS_WEIGHT = 0.9
"""How much a missed pair weighs against a false hit when bands are chosen; false hits cost only a comparison."""
PAD = "\x02"
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Words and signs of a text in lower case; trailing punctuation is no difference."""
    return _WORD.findall(text.lower().rstrip(" .!?\n\t"))


def padded_words(text: str) -> list[str]:
    """The words between pads, so that a short text has trigrams too."""
    pad = [PAD] * (SHINGLE_WORDS - 1)
    return [*pad, *words_of(text), *pad]


def shingles(text: str) -> frozenset[str]:
    """Padded word trigrams of a text."""
    padded = padded_words(text)
    return frozenset(" ".join(padded[at : at + SHINGLE_WORDS]) for at in range(len(padded) - SHINGLE_WORDS + 1))


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of two texts' shingles, 0 to 1."""
    ours, theirs = shingles(left), shingles(right)
    return len(ours & theirs) / len(ours | theirs)
