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

MOST_POSITIONS = 3
"""Tokens that make a type of prompt in the control task."""

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


def telling_positions(prompts: Sequence[Sequence[int]], labels: Sequence[int]) -> tuple[int, ...]:
    """The positions, from the end (-1 is the last), whose tokens together tell most about the label; perhaps none.

    A lookup by these tokens is what a classifier could learn by heart. Chosen one after the other while the other
    prompts with the same tokens tell the label of one more prompt in twenty; the first has to beat no token by as much.
    """
    depth = min(map(len, prompts))
    chosen: tuple[int, ...] = ()
    told = _told([()] * len(labels), labels)
    while len(chosen) < MOST_POSITIONS:
        told_by = {at: _told(types_of(prompts, (*chosen, at)), labels) for at in range(-1, -depth - 1, -1)}
        best = max(told_by, key=lambda at: (told_by[at], at))
        if told_by[best] < told + len(labels) / 20:
            break
        chosen, told = (*chosen, best), told_by[best]
    return chosen


def types_of(prompts: Sequence[Sequence[int]], positions: Sequence[int]) -> list[Hashable]:
    """The type of each prompt: its tokens at the positions (-1 where it is too short); without positions all of it."""
    if not positions:
        return [tuple(row) for row in prompts]
    return [tuple(row[at] if len(row) >= -at else -1 for at in positions) for row in prompts]


def _told(types: Sequence[Hashable], labels: Sequence[int]) -> float:
    """Expected number of labels that a draw among the other rows of the same type gets right.

    Not a majority vote: leaving a row out turns the majority of balanced labels against it.
    """
    both, alone = Counter(zip(types, labels, strict=True)), Counter(types)
    pairs = zip(types, labels, strict=True)
    return sum((both[kind, label] - 1) / max(1, alone[kind] - 1) for kind, label in pairs)


def control_labels(types: Sequence[Hashable], labels: Sequence[int], *, seed: int) -> dict[Hashable, int]:
    """A random label for each type, drawn as often as labels occur: the control task of Hewitt & Liang 2019
    (arXiv:1909.03368). What a classifier gets right of it, it has learnt by heart."""
    rng = random.Random(seed)
    return {kind: rng.choice(list(labels)) for kind in sorted(set(types), key=repr)}
