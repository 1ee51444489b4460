"""Runs of words as 64-bit hashes, many texts at a time, and their MinHash. Knows words; knows no example.

Vectorised over a batch, as an object per text (datasketch) took ten times as long. Hashes are the same on every
machine; that two different runs of words share one has a chance of 2^-64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
_SEED = 1
_SHIFT = np.uint64(32)


class Runs(NamedTuple):
    """Hashes of the runs of all texts, one text after another; starts has each text's first place, and the end."""

    hashes: U64
    starts: NDArray[np.int64]

    def of(self, at: int) -> U64:
        """The hashes of one text."""
        return self.hashes[self.starts[at] : self.starts[at + 1]]


@lru_cache(maxsize=262_144)
def word_hash(word: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def runs(texts: Sequence[Sequence[str]], *, length: int) -> Runs:
    """Hashes of every run of `length` words of each text, given as words; a shorter text has none."""
    counts = np.fromiter((len(words) for words in texts), np.int64, count=len(texts))
    flat = np.fromiter((word_hash(word) for words in texts for word in words), np.uint64, count=int(counts.sum()))
    own = np.maximum(counts - (length - 1), 0)
    starts = np.concatenate([[0], np.cumsum(own)])
    first_words = np.concatenate([[0], np.cumsum(counts)])[:-1]
    at = np.repeat(first_words - starts[:-1], own) + np.arange(int(starts[-1]))
    hashes = np.zeros(len(at), np.uint64)
    for place, factor in enumerate(_odd(length)):
        hashes = hashes + flat[at + place] * factor
    return Runs(_mixed(hashes), starts)


def min_hashes(found: Runs, *, permutations: int) -> U64:
    """(texts, permutations): the least hash of each text's runs under each permutation (Broder 1997).

    Every text needs a run. Permutations are multiply-shift on the mixed hashes.
    """
    rows = np.empty((len(found.starts) - 1, permutations), np.uint64)
    if not len(rows):
        return rows
    factors, addends = _odd(permutations, stream=1), _odd(permutations, stream=2)
    for at in range(permutations):
        rows[:, at] = np.minimum.reduceat((found.hashes * factors[at] + addends[at]) >> _SHIFT, found.starts[:-1])
    return rows


def combined(columns: U64) -> U64:
    """One hash for each row of (rows, columns)."""
    total = np.zeros(len(columns), np.uint64)
    for at, factor in enumerate(_odd(columns.shape[1])):
        total = total + columns[:, at] * factor
    return _mixed(total)


@lru_cache(maxsize=64)
def _odd(count: int, *, stream: int = 0) -> U64:
    drawn = np.random.default_rng([_SEED, stream]).integers(0, 2**63, size=count, dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def _mixed(values: U64) -> U64:
    """The finaliser of MurmurHash3 (Appleby 2011): every bit depends on every bit."""
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))
