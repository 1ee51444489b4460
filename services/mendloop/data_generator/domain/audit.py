"""Bias audit: how a batch shifts the distribution of each axis's values and of the answers. Knows examples only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mendloop.core.records import Example

MOST_VALUES = 50
"""Values of an axis that are listed; the rarer ones are summed as OTHER."""
OTHER = "(other values)"


def audit(corpus: Sequence[Example], batch: Sequence[Example]) -> dict[str, object]:
    """Per axis and value: the share of examples with it in the corpus and in corpus + batch, and how many it adds.

    Shares of one axis may sum to more than 1, as an example may carry several values. `answers` are the distinct
    completions and the share of the most frequent one, of the corpus and of the batch.
    """
    axes = sorted({axis for example in (*corpus, *batch) for axis in example.axes})
    return {
        "corpus_count": len(corpus),
        "batch_count": len(batch),
        "axes": {axis: _axis(axis, corpus=corpus, batch=batch) for axis in axes},
        "answers": {"corpus": _answers(corpus), "batch": _answers(batch)},
    }


def _axis(axis: str, *, corpus: Sequence[Example], batch: Sequence[Example]) -> dict[str, object]:
    before, added = _counts(axis, corpus), _counts(axis, batch)
    listed = [value for value, _ in (before + added).most_common(MOST_VALUES)]
    shares = {
        value: _shift(before[value], added[value], corpus_count=len(corpus), batch_count=len(batch)) for value in listed
    }
    rest = [value for value in before + added if value not in shares]
    if rest:
        shares[OTHER] = _shift(
            sum(before[value] for value in rest),
            sum(added[value] for value in rest),
            corpus_count=len(corpus),
            batch_count=len(batch),
        )
    return {"values": shares, "largest_shift": max(abs(row["after"] - row["before"]) for row in shares.values())}


def _shift(before: int, added: int, *, corpus_count: int, batch_count: int) -> dict[str, float]:
    return {
        "before": before / max(1, corpus_count),
        "after": (before + added) / max(1, corpus_count + batch_count),
        "batch": added,
    }


def _counts(axis: str, examples: Iterable[Example]) -> Counter[str]:
    return Counter(value for example in examples for value in set(example.axes.get(axis, ())))


def _answers(examples: Sequence[Example]) -> dict[str, float]:
    counts = Counter(example.completion for example in examples)
    most = counts.most_common(1)[0][1] if counts else 0
    return {"distinct": len(counts), "most_frequent_share": most / max(1, len(examples))}
