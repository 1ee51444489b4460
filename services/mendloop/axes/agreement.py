"""Agreement of annotators on nominal values, with intervals. Knows labels; knows neither items nor models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A chance-corrected agreement, 1 is perfect and 0 is chance, with its 95 % bootstrap interval over n items."""

    value: float
    low: float
    high: float
    n: int


def cohen_kappa(first: Sequence[str], second: Sequence[str], *, seed: int = 0) -> Agreement:
    """Cohen (1960), Educ. Psychol. Meas. 20:37. 0 where one value is all that both ever say: nothing was shown.

    Percentile bootstrap (Efron 1979) over items. Raises ValueError for unequal lengths or no items.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"kappa needs pairs; got {len(first)} and {len(second)} labels")
    labels = {label: i for i, label in enumerate(sorted({*first, *second}))}
    table = np.zeros((len(labels), len(labels)))
    for a, b in zip(first, second, strict=True):
        table[labels[a], labels[b]] += 1
    draws = np.random.default_rng(seed).multinomial(len(first), table.ravel() / len(first), size=RESAMPLES)
    resampled = _kappa(draws.reshape(-1, *table.shape).astype(np.float64))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Agreement(float(_kappa(table[np.newaxis])[0]), float(low), float(high), len(first))


def krippendorff_alpha(units: Sequence[Sequence[str | None]], *, seed: int = 0) -> Agreement:
    """Nominal alpha (Krippendorff 2011, "Computing Krippendorff's alpha-reliability") of any number of annotators.

    units holds, for each item, what each annotator said; None is a missing answer. Items with fewer than two answers
    cannot be paired and do not count. Bootstrap over items. Raises ValueError where no item can be paired.
    """
    labels = {label: i for i, label in enumerate(sorted({x for unit in units for x in unit if x is not None}))}
    tables = [_coincidences([labels[x] for x in unit if x is not None], size=len(labels)) for unit in units]
    paired = np.array([table for table in tables if table is not None])
    if not len(paired):
        raise ValueError(f"alpha needs an item with two answers; none of {len(units)} has")
    weights = np.random.default_rng(seed).multinomial(
        len(paired), np.full(len(paired), 1 / len(paired)), size=RESAMPLES
    )
    flat = paired.reshape(len(paired), -1)
    resampled = _alpha((weights @ flat).reshape(-1, *paired.shape[1:]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Agreement(float(_alpha(paired.sum(axis=0)[np.newaxis])[0]), float(low), float(high), len(paired))


def _kappa(tables: Counts) -> Counts:
    """(tables, labels, labels) to (tables,)."""
    n = tables.sum(axis=(1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / n
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / n**2
    return _corrected(observed, expected)


def _alpha(tables: Counts) -> Counts:
    """Coincidence matrices (tables, labels, labels) to (tables,)."""
    n = tables.sum(axis=(1, 2))
    margins = tables.sum(axis=1)
    observed = np.trace(tables, axis1=1, axis2=2) / n
    expected = (margins * (margins - 1)).sum(axis=1) / (n * np.maximum(n - 1, 1))
    return _corrected(observed, expected)


def _corrected(observed: Counts, expected: Counts) -> Counts:
    room = 1 - expected
    corrected: Counts = np.where(room > 1e-12, (observed - expected) / np.where(room > 1e-12, room, 1.0), 0.0)
    return corrected


def _coincidences(answers: Sequence[int], *, size: int) -> Counts | None:
    """Ordered pairs of different answers to one item, each weighted 1 / (answers - 1)."""
    if len(answers) < 2:
        return None
    counts = np.bincount(answers, minlength=size).astype(np.float64)
    table: Counts = (np.outer(counts, counts) - np.diag(counts)) / (len(answers) - 1)
    return table
