"""How a corpus writes its prompts, and how another prompt would be written that way. Knows words; asks no model.

Undoes what carries no meaning: case, punctuation, missing or extra white space, and what wraps prompts.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MOST_WORDS = 12
"""Longest prefix or suffix that is taken for a wrapper."""
COMMON = 0.2
"""A wrapper is shared by a fifth of the prompts at least; less is no format."""

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Writing:
    """A corpus's words, their usual forms by folded form, and the words and phrases at either end of prompts."""

    words: frozenset[str]
    forms: Mapping[str, str]
    splits_digits: bool
    """No word has two digits: numbers are written digit by digit."""
    firsts: frozenset[str]
    lasts: frozenset[str]
    starts: frozenset[Words]
    ends: frozenset[Words]


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What evaluation puts before and after prompts and the corpus never does; empty where nothing is."""

    prefix: Words = ()
    suffix: Words = ()

    def stripped(self, words: Words) -> Words:
        """The words without the wrapper, as far as they have it and anything is left."""
        if self.prefix and words[: len(self.prefix)] == self.prefix:
            words = words[len(self.prefix) :] or words
        if self.suffix and words[-len(self.suffix) :] == self.suffix:
            words = words[: -len(self.suffix)] or words
        return words


def writing_of(prompts: Iterable[str]) -> Writing:
    """The writing of a corpus's prompts."""
    rows = [tuple(prompt.split()) for prompt in dict.fromkeys(prompts)]
    rows = [row for row in rows if row]
    tally = Counter(word for row in rows for word in row)
    forms: dict[str, str] = {}
    for word, _ in tally.most_common():
        if _folded(word):
            forms.setdefault(_folded(word), word)
    return Writing(
        words=frozenset(tally),
        forms=forms,
        splits_digits=not any(word.isdigit() and len(word) > 1 for word in tally),
        firsts=frozenset(row[0] for row in rows),
        lasts=frozenset(row[-1] for row in rows),
        starts=frozenset(row[:size] for row in rows for size in range(1, 1 + min(MOST_WORDS, len(row)))),
        ends=frozenset(row[-size:] for row in rows for size in range(1, 1 + min(MOST_WORDS, len(row)))),
    )


def respelt(writing: Writing, prompt: str) -> Words:
    """The prompt's words as the corpus writes them; words that it has in no form stay as they are."""
    words = prompt.split()
    spelt = tuple(piece for word in words for piece in _respelt_word(writing, word))
    if sum(len(word) == 1 for word in words) > len(words) / 2 and not writing.words.issuperset(spelt):
        return _segmented(writing, "".join(words)) or spelt  # letters with spaces between them
    return spelt


def common_wrapper(writing: Writing, prompts: Sequence[Words]) -> Wrapper:
    """The prefix and the suffix that many prompts share and no corpus prompt has."""
    mirrored = [row[::-1] for row in prompts]
    suffix = _shared_start(mirrored, firsts=writing.lasts, known=frozenset(row[::-1] for row in writing.ends))
    return Wrapper(_shared_start(prompts, firsts=writing.firsts, known=writing.starts), suffix[::-1])


def _shared_start(prompts: Sequence[Words], *, firsts: frozenset[str], known: frozenset[Words]) -> Words:
    """The commonest start that is new to the corpus and is followed by a word that starts prompts in it."""
    tally: Counter[Words] = Counter()
    for row in prompts:
        sizes = range(1, min(MOST_WORDS, len(row) - 1) + 1)
        tally.update(row[:size] for size in sizes if row[size] in firsts and row[:size] not in known)
    least = max(2.0, COMMON * len(prompts))
    found = [start for start, count in tally.items() if count >= least]
    return max(found, key=lambda start: (tally[start], len(start), start), default=())


def _folded(word: str) -> str:
    return word.casefold().strip(string.punctuation)


def _respelt_word(writing: Writing, word: str) -> Words:
    if word in writing.words:
        return (word,)
    form = writing.forms.get(_folded(word))
    if form:
        return (form,)
    return _segmented(writing, word) or (word,)


def _segmented(writing: Writing, text: str) -> Words:
    """The fewest corpus words that spell the text, without punctuation that they lack; empty where none do."""
    text = text.casefold()
    best: list[Words | None] = [(), *[None] * len(text)]
    for end in range(1, len(text) + 1):
        options = list(_options(writing, text, end, best))
        best[end] = min(options, key=len, default=None)
    return best[-1] or ()


def _options(writing: Writing, text: str, end: int, best: Sequence[Words | None]) -> Iterator[Words]:
    longest = 24
    for start in range(max(0, end - longest), end):
        before, piece = best[start], text[start:end]
        if before is None:
            continue
        if start and piece[0].isdigit() and text[start - 1].isdigit() and not writing.splits_digits:
            continue
        form = piece if piece in writing.words else writing.forms.get(piece)
        if form:
            yield (*before, form)
        elif len(piece) == 1 and not piece.isalnum():
            yield before
