"""Bias audit: how a batch shifts the distribution of each axis's values and of the answers. Knows examples only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mendloop.core.records import Example

MOST_VALUES = 50
"""Values of an axis that are listed; the rarer ones are summed as OTHER."""
OTHER = "(other values)"


def audit(
    corpus: Sequence[Example], batch: Sequence[Example], *, kept: Sequence[Example] | None = None
) -> dict[str, object]:
    """Per axis and value: the share of examples with it in the corpus and in corpus + batch, and how many it adds.

    kept is the corpus that is trained on where it is not the whole one. Shares of one axis may sum to more than 1, as
    an example may carry several values. `answers` are the distinct completions and the share of the most frequent one,
    of the corpus, of the batch, and of both together.
    """
    rest = corpus if kept is None else kept
    axes = sorted({axis for example in (*corpus, *batch) for axis in example.axes})
    return {
        "corpus_count": len(corpus),
        "kept_count": len(rest),
        "batch_count": len(batch),
        "axes": {axis: _axis(axis, corpus=corpus, kept=rest, batch=batch) for axis in axes},
        "answers": {"corpus": _answers(corpus), "batch": _answers(batch), "after": _answers([*rest, *batch])},
    }


def _axis(
    axis: str, *, corpus: Sequence[Example], kept: Sequence[Example], batch: Sequence[Example]
) -> dict[str, object]:
    before, rest, added = _counts(axis, corpus), _counts(axis, kept), _counts(axis, batch)
    listed = [value for value, _ in (before + added).most_common(MOST_VALUES)]
    others = [value for value in before + added if value not in set(listed)]
    named = {**{value: [value] for value in listed}, **({OTHER: others} if others else {})}
    shares = {
        name: {
            "before": _sum(before, values) / max(1, len(corpus)),
            "after": (_sum(rest, values) + _sum(added, values)) / max(1, len(kept) + len(batch)),
            "batch": _sum(added, values),
        }
        for name, values in named.items()
    }
    return {"values": shares, "largest_shift": max(abs(row["after"] - row["before"]) for row in shares.values())}


def _sum(counts: Counter[str], values: Sequence[str]) -> int:
    return sum(counts[value] for value in values)


def _counts(axis: str, examples: Iterable[Example]) -> Counter[str]:
    return Counter(value for example in examples for value in set(example.axes.get(axis, ())))


def _answers(examples: Sequence[Example]) -> dict[str, float]:
    counts = Counter(example.completion for example in examples)
    most = counts.most_common(1)[0][1] if counts else 0
    return {"distinct": len(counts), "most_frequent_share": most / max(1, len(examples))}
