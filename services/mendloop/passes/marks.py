"""What decontamination knows of the evaluation: hashes of its items, never their texts. Knows hashes; knows no store.

The document is JSON: `algorithm` (sha256) and `fingerprints` of whole prompts; and `ngrams`, where the recipe asks for
it: the hashed runs of words of each item, sorted, so that their order says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendloop.core.errors import CorruptArtifact
from mendloop.core.records import Example, fingerprint
from mendloop.passes.hashing import U64, runs
from mendloop.passes.texts import words_of

ALGORITHM = "sha256"
HASHED = "runs-1"
"""Version of the hash of runs of words."""
IS_ITEM = "its prompt is an evaluation item"
HOLDS_ITEM = "it holds the words of an evaluation item"


@dataclass(frozen=True, slots=True, eq=False)
class NgramMarks:
    """Hashed runs of words of items. An example that holds `share` of one item's runs is contaminated.

    The rule of share is that of PaLM (Chowdhery et al. 2022, arXiv 2204.02311, section 8: 70 % of 8-grams), for an
    item within an example. hashes are sorted; owners names the item of each; sizes has the runs of each item.
    """

    words: int
    share: float
    hashes: U64
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def are_held(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each text holds an item."""
        found = runs([words_of(text) for text in texts], length=self.words)
        of_text = np.repeat(np.arange(len(texts)), np.diff(found.starts))
        held = np.zeros(len(texts), np.bool_)
        for at in np.unique(of_text[np.isin(found.hashes, self.hashes)]):
            held[at] = self._holds_item(np.unique(found.of(int(at))))
        return held

    def _holds_item(self, own: U64) -> bool:
        hits = self.owners[np.isin(self.hashes, own)]
        items, counts = np.unique(hits, return_counts=True)
        return bool((counts >= self.share * self.sizes[items]).any())


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationMarks:
    """Fingerprints of every evaluation item, sealed ones too, and their runs of words where there are any."""

    fingerprints: frozenset[str]
    ngrams: NgramMarks | None = None

    def reasons(self, prompts: Sequence[str], completions: Sequence[str]) -> list[str]:
        """Why each example may not be trained on; empty where it may."""
        holds = [False] * len(prompts)
        if self.ngrams is not None and prompts:
            holds = self.ngrams.are_held([" ".join(row) for row in zip(prompts, completions, strict=True)]).tolist()
        marks = [fingerprint(prompt) in self.fingerprints for prompt in prompts]
        return [IS_ITEM if mark else HOLDS_ITEM if hold else "" for mark, hold in zip(marks, holds, strict=True)]

    def holds_item(self, example: Example) -> bool:
        """Whether an example holds the words of an item; never where the recipe asks for prompts alone."""
        return self.ngrams is not None and bool(self.ngrams.are_held([f"{example.prompt} {example.completion}"])[0])

    @staticmethod
    def of_bytes(data: bytes, *, name: str) -> EvaluationMarks:
        """Read a stored document. Raises CorruptArtifact as `of` does."""
        return EvaluationMarks.of(json.loads(data), name=name)

    @staticmethod
    def of(document: Mapping[str, Any], *, name: str) -> EvaluationMarks:
        """Read a document. Raises CorruptArtifact where it holds no fingerprints, or n-grams of another version."""
        marks = document.get("fingerprints")
        if document.get("algorithm") != ALGORITHM or not isinstance(marks, list):
            raise CorruptArtifact(
                f"{name} holds no sha256 fingerprints (algorithm {document.get('algorithm')!r}): "
                "without them no example can be cleared of contamination"
            )
        ngrams = document.get("ngrams")
        return EvaluationMarks(frozenset(marks), _read_ngrams(ngrams, name=name) if ngrams else None)


def marks_document(prompts: Iterable[str], *, ngram_words: int = 0, ngram_share: float = 0.7) -> dict[str, object]:
    """The document of these evaluation prompts; without n-grams where ngram_words is 0.

    An item of fewer words than a run has none: its fingerprint alone guards it; short_count says how many.
    """
    texts = sorted(set(prompts))
    document: dict[str, object] = {
        "algorithm": ALGORITHM,
        "fingerprints": sorted({fingerprint(text) for text in texts}),
    }
    if ngram_words:
        found = runs([words_of(text) for text in texts], length=ngram_words)
        items = sorted(np.unique(found.of(at)).tolist() for at in range(len(texts)))
        document["ngrams"] = {
            "hash": HASHED,
            "words": ngram_words,
            "share": ngram_share,
            "short_count": sum(not item for item in items),
            "items": [[f"{value:016x}" for value in item] for item in items if item],
        }
    return document


def _read_ngrams(document: Mapping[str, Any], *, name: str) -> NgramMarks:
    if document.get("hash") != HASHED:
        raise CorruptArtifact(f"{name} holds n-grams hashed by {document.get('hash')!r}; this version reads {HASHED!r}")
    items = [[int(value, 16) for value in item] for item in document["items"]]
    hashes = np.array([value for item in items for value in item], np.uint64)
    owners = np.array([at for at, item in enumerate(items) for _ in item], np.int64)
    order = np.argsort(hashes, kind="stable")
    sizes = np.array([len(item) for item in items], np.int64)
    return NgramMarks(int(document["words"]), float(document["share"]), hashes[order], owners[order], sizes)
