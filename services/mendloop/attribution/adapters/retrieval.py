"""Retrievers: BM25 over words, and vectors of a sentence model. Knows texts; knows neither models nor influence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import bm25s
import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+|[^\w\s]")


class Bm25:
    """Okapi BM25 with Lucene's variant of the inverse frequency, by bm25s (Lù 2024, arXiv 2407.03618)."""

    name = "bm25"

    def __init__(self) -> None:
        self._engine = bm25s.BM25()
        self._known: set[str] = set()

    def fit(self, texts: Sequence[str]) -> None:
        """See Retriever."""
        tokens = [_words(text) for text in texts]
        self._known = {word for row in tokens for word in row}
        self._engine.index(tokens, show_progress=False)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """See Retriever. A query without any word of the corpus is like nothing."""
        return np.stack([self._of(query) for query in queries])

    def _of(self, query: str) -> NDArray[np.float32]:
        words = [word for word in _words(query) if word in self._known]
        if not words:
            return np.zeros(self._engine.scores["num_docs"], np.float32)
        found: NDArray[np.float32] = self._engine.get_scores(words).astype(np.float32)
        return found


class Embedder(Protocol):
    """Turns texts into vectors of length 1."""

    @property
    def name(self) -> str:
        """Model and version."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions)."""


class Embeddings:
    """Cosine of sentence vectors."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name = f"embedding:{embedder.name}"
        self._vectors_ND: NDArray[np.float32] = np.zeros((0, 1), np.float32)

    def fit(self, texts: Sequence[str]) -> None:
        """See Retriever."""
        self._vectors_ND = self._embedder.embed(texts)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """See Retriever."""
        scores: NDArray[np.float32] = self._embedder.embed(queries) @ self._vectors_ND.T
        return scores


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())
