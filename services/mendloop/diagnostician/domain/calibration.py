"""The parameters of the calibrated judge, and the features that they weigh. Values in, probabilities out.

One logistic regression for all causes: a weight per feature that the causes share, plus a cause's own deviation, which
is fitted with a strong penalty (partial pooling). What is learnt is how far to trust an explanation, not what a task
looks like, so that it carries over to a task family that was never planted with faults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mendloop.diagnostician.domain.case import SAMPLE_NAMES
from mendloop.diagnostician.domain.causes import Cause, Family, family_of
from mendloop.diagnostician.domain.evidence import Evidence, Table
from mendloop.diagnostician.domain.explained import NOTICED, Explained
from mendloop.diagnostician.domain.explanations import EXPLANATIONS, explain

FORMAT = 1
CAUSES = tuple(EXPLANATIONS)
RIVALS = (Family.DATA, Family.TRAINING, Family.EVALUATION, Family.OTHER)
RIVAL_FEATURES = tuple(f"rival_{name.value.lower()}" for name in RIVALS)
FEATURES = ("one", "measured", "noticed", "low", "value", "high", *RIVAL_FEATURES, "spread")
"""Of a cause: 1; whether it was measured; how far its share is more than chance; its share of the failures; the
strongest explanation by another cause of each family; how far the two samples lie apart. What was not measured is 0.

A small share that is surely there counts by itself: of two faults at once neither explains most failures."""

Features = NDArray[np.float64]
"""Axes: sample, cause, feature."""


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What a probe cost and brought on planted cases: means over cases, shares by cause."""

    wall_s: float
    token_count: float
    resolved: Mapping[Cause, float]
    """Share of a cause's entropy that the probe took away."""
    turned: Mapping[Cause, float]
    """Share of standing verdicts of a cause that the probe changed, named causes beside it included."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights (one per feature), the two thresholds, the probes' records, and where all that comes from."""

    shared: tuple[float, ...]
    deviations: Mapping[Cause, tuple[float, ...]]
    abstain_below: float
    """No verdict where the likeliest cause is less likely than this."""
    also_above: float
    """A further cause is named from this probability on."""
    probes: Mapping[str, ProbeRecord] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.deviations) != set(CAUSES):
            raise ValueError(
                f"deviations are of {sorted(self.deviations)}; they must be of the causes {sorted(CAUSES)}"
            )
        for name, row in (("shared", self.shared), *self.deviations.items()):
            if len(row) != len(FEATURES) or not all(math.isfinite(weight) for weight in row):
                raise ValueError(f"weights of {name} are {row}; they must be {len(FEATURES)} finite numbers")
        for name, value in (("abstain_below", self.abstain_below), ("also_above", self.also_above)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it is a probability")

    def probabilities(self, features: Features) -> NDArray[np.float64]:
        """P(cause present) from features whose last two axes are cause and feature."""
        weights = np.array([self.deviations[cause] for cause in CAUSES]) + np.array(self.shared)
        return sigmoid((features * weights).sum(axis=-1))

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "format": FORMAT,
            "features": list(FEATURES),
            "shared": list(self.shared),
            "deviations": {cause.value: list(row) for cause, row in self.deviations.items()},
            "abstain_below": self.abstain_below,
            "also_above": self.also_above,
            "probes": {name: _probe_document(record) for name, record in self.probes.items()},
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def of(document: Mapping[str, object]) -> Calibration:
        """Read a document. Raises KeyError, TypeError or ValueError where it is none of this format."""
        if document["format"] != FORMAT or document["features"] != list(FEATURES):
            raise ValueError(f"the format is {document['format']} with the features {document['features']}")
        return Calibration(
            shared=_numbers(document["shared"]),
            deviations={Cause(name): _numbers(row) for name, row in _mapping(document["deviations"]).items()},
            abstain_below=_number(document["abstain_below"]),
            also_above=_number(document["also_above"]),
            probes={name: _probe_of(row) for name, row in _mapping(document["probes"]).items()},
            provenance=_mapping(document["provenance"]),
        )


def explained_by(evidence: Sequence[Evidence]) -> list[dict[Cause, Explained]]:
    """What each cause explains, sample by sample."""
    return [explain(Table(evidence, sample=name)) for name in SAMPLE_NAMES]


def features_of(samples: Sequence[Mapping[Cause, Explained]]) -> Features:
    """The features of every cause on every sample."""
    values = np.array([[row[cause].value for cause in CAUSES] for row in samples])
    spread = values.max(axis=0) - values.min(axis=0)
    return np.array(
        [[_features(row, cause, spread=float(spread[at])) for at, cause in enumerate(CAUSES)] for row in samples]
    )


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each yes-or-no question, in bits."""
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def _features(explained: Mapping[Cause, Explained], cause: Cause, *, spread: float) -> list[float]:
    own = explained[cause]
    share = (own.low, own.value, own.high) if own.is_measured else (0.0, 0.0, 0.0)
    rivals = [_strongest(explained, family, but=cause) for family in RIVALS]
    return [1.0, float(own.is_measured), min(1.0, share[0] / NOTICED), *share, *rivals, spread]


def _strongest(explained: Mapping[Cause, Explained], family: Family, *, but: Cause) -> float:
    """The largest share that another cause of the family explains, half by its value and half by its lower end."""
    shares = [
        (share.value + share.low) / 2
        for cause, share in explained.items()
        if cause is not but and family_of(cause) is family and share.is_measured
    ]
    return max(shares, default=0.0)


def _probe_document(record: ProbeRecord) -> dict[str, object]:
    return {
        "wall_s": record.wall_s,
        "token_count": record.token_count,
        "resolved": {cause.value: share for cause, share in record.resolved.items()},
        "turned": {cause.value: share for cause, share in record.turned.items()},
    }


def _probe_of(document: object) -> ProbeRecord:
    row = _mapping(document)
    shares = (
        {Cause(name): _number(share) for name, share in _mapping(row[key]).items()} for key in ("resolved", "turned")
    )
    return ProbeRecord(_number(row["wall_s"]), _number(row["token_count"]), *shares)


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} should be an object")
    return value


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{value!r} should be a list of numbers")
    return tuple(_number(one) for one in value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} should be a number")
    return float(value)
