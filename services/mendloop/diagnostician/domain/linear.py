"""Linear classifiers on hidden states and their control task. Knows arrays and labels; knows neither models nor cases.

A ridge regression onto one-hot labels has a closed form: one decomposition a layer serves every strength and every
control task. Layer and strength are chosen on rows of their own, so that held-out accuracy stays honest.

Shapes: N rows, L layers, H features, K singular values, C labels.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)
"""Ridge strengths, as shares of the mean squared singular value; of equals the strongest is taken."""

Floats = NDArray[Any]
Labelled = tuple[Floats, Sequence[int]]
"""States [N, L, H] with a label each."""


@dataclass(frozen=True, slots=True)
class Basis:
    """The rows to fit, on one layer: centred, scaled and decomposed. layer is an index into L."""

    layer: int
    mean_H: Floats
    scale_H: Floats
    left_NK: Floats
    values_K: Floats
    right_KH: Floats


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier on one layer."""

    layer: int
    mean_H: Floats
    scale_H: Floats
    weights_HC: Floats
    bias_C: Floats
    labels: tuple[int, ...]

    def predict(self, states_NLH: Floats) -> list[int]:
        """The likeliest label of each row."""
        rows_NH = (states_NLH[:, self.layer].astype(float) - self.mean_H) / self.scale_H
        best_N = (rows_NH @ self.weights_HC + self.bias_C).argmax(axis=1)
        return [self.labels[at] for at in best_N]

    def hits(self, rows: Labelled) -> int:
        """How many rows get their label."""
        states_NLH, labels = rows
        if not len(labels):
            return 0
        return sum(one == other for one, other in zip(self.predict(states_NLH), labels, strict=True))


def bases(states_NLH: Floats) -> list[Basis]:
    """One a layer."""
    found = []
    for layer in range(states_NLH.shape[1]):
        rows_NH = states_NLH[:, layer].astype(float)
        mean_H, scale_H = rows_NH.mean(axis=0), rows_NH.std(axis=0) + 1e-6
        parts = np.linalg.svd((rows_NH - mean_H) / scale_H, full_matrices=False)
        found.append(Basis(layer, mean_H, scale_H, *parts))
    return found


def fits(among: Iterable[Basis], labels: Sequence[int]) -> list[Fitted]:
    """A classifier for each layer and strength, of the labels of the rows to fit."""
    names = tuple(sorted(set(labels)))
    target_NC = (np.asarray(labels)[:, None] == np.asarray(names)[None]).astype(float)
    bias_C = target_NC.mean(axis=0)
    found = []
    for basis in among:
        inner_KC = basis.left_NK.T @ (target_NC - bias_C)
        unit = float((basis.values_K**2).mean())
        for strength in STRENGTHS:
            shrunk_K = basis.values_K / (basis.values_K**2 + strength * unit + 1e-12)
            weights_HC = basis.right_KH.T @ (shrunk_K[:, None] * inner_KC)
            found.append(Fitted(basis.layer, basis.mean_H, basis.scale_H, weights_HC, bias_C, names))
    return found


def best_of(candidates: Iterable[Fitted], groups: Sequence[Labelled]) -> Fitted:
    """The classifier with the highest accuracy, as the mean over groups; of equals the first."""
    asked = [rows for rows in groups if len(rows[1])]
    return max(candidates, key=lambda one: sum(one.hits(rows) / len(rows[1]) for rows in asked))


def prompt_types(
    prompts: Sequence[Sequence[int]], labels: Sequence[int], *, others: Sequence[Sequence[int]]
) -> tuple[list[Hashable], list[Hashable], int | None]:
    """The type of each prompt, the type of each of the others, and the position that makes it, from the end.

    The position is that whose token tells most about the label, by leave-one-out majority vote: a lookup by this token
    is what a classifier could learn by heart. Where no token tells more than the commonest label does, each prompt is
    a type of its own, and the position is None.
    """
    depth = min(map(len, prompts))
    votes = {at: _left_out([row[at] for row in prompts], labels) for at in range(-1, -depth - 1, -1)}
    place = max(votes, key=lambda at: (votes[at], at))
    if votes[place] <= _left_out([0] * len(labels), labels):
        return [tuple(row) for row in prompts], [tuple(row) for row in others], None
    return ([row[place] for row in prompts], [row[place] if len(row) >= -place else -1 for row in others], place)


def _left_out(types: Sequence[Hashable], labels: Sequence[int]) -> int:
    """How many labels the majority of the other rows of the same type has."""
    tally: dict[Hashable, Counter[int]] = {}
    for kind, label in zip(types, labels, strict=True):
        tally.setdefault(kind, Counter())[label] += 1
    hits = 0
    for kind, label in zip(types, labels, strict=True):
        rest = tally[kind] - Counter({label: 1})
        hits += bool(rest) and max(rest, key=lambda one: (rest[one], -one)) == label
    return hits


def control_labels(types: Sequence[Hashable], labels: Sequence[int], *, seed: int) -> dict[Hashable, int]:
    """A random label for each type, drawn as often as labels occur: the control task of Hewitt & Liang 2019
    (arXiv:1909.03368). What a classifier gets right of it, it has learnt by heart."""
    rng = random.Random(seed)
    return {kind: rng.choice(list(labels)) for kind in sorted(set(types), key=repr)}
