"""Owns the weights of group DRO: which group an example is of, and how losses move the weights. Knows numbers alone.

Sagawa et al. 2020 (arXiv 1911.08731, algorithm 1), with the excess over a reference loss and the smoothing of Xie et
al. 2023 (DoReMi, arXiv 2305.10429, algorithm 1). Losses are in nats per labelled token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mendloop.core.group_settings import GroupDroSettings
from mendloop.core.records import Axes

NO_GROUP = "(none)"
"""The group of the examples without a value on the axis."""


def group_of(axes: Axes, *, axis: str) -> str:
    """An example's value on the axis; several are one group of their own, joined by "+"."""
    return "+".join(sorted(axes.get(axis, ()))) or NO_GROUP


def reason_against(groups: Sequence[str], *, axis: str) -> str:
    """Why there is nothing to weigh among the groups of the examples; empty where there is."""
    found = sorted(set(groups))
    if found == [NO_GROUP]:
        return (
            f"group_dro: none of the {len(groups)} examples has a value on the axis {axis!r}; name one that they have"
        )
    if len(found) < 2:
        return (
            f"group_dro: all {len(groups)} examples have {found[0]!r} on the axis {axis!r}, and one group cannot be "
            "weighed; name another axis or remove group_dro"
        )
    return ""


class GroupWeights:
    """The weights of a training's groups, from uniform on. Its state is JSON, so it survives a crash bit by bit."""

    def __init__(
        self, groups: Sequence[str], *, settings: GroupDroSettings, state: Mapping[str, Any] | None = None
    ) -> None:
        uniform = [1 / len(groups)] * len(groups)
        known = {"weights": uniform, "sums": [0.0] * len(groups), "step": 0, "references": [], **(state or {})}
        self.groups = tuple(groups)
        self._settings = settings
        self._weights: list[float] = list(known["weights"])
        self._sums: list[float] = list(known["sums"])
        self._step: int = known["step"]
        self.references: tuple[float, ...] = tuple(known["references"])
        """Loss of the start checkpoint on each group; empty until it is measured."""

    def begin(self, references: Sequence[float]) -> None:
        """Take the losses of the start checkpoint."""
        if len(references) != len(self.groups):
            raise ValueError(f"{len(references)} reference losses for {len(self.groups)} groups; give one for each")
        self.references = tuple(references)

    def update(self, losses: Sequence[float | None]) -> list[float]:
        """Move the weights by a step's losses (None: not in the batch), and give them; they sum to 1."""
        rate, smoothing, count = self._settings.rate, self._settings.smoothing, len(self.groups)
        powers = [
            0.0 if loss is None else rate * max(loss - reference, 0.0)
            for loss, reference in zip(losses, self._compared_with(), strict=True)
        ]
        most = max(powers)  # taken out of every exponent: no overflow, same weights
        raised = [weight * math.exp(power - most) for weight, power in zip(self._weights, powers, strict=True)]
        total = math.fsum(raised)
        self._weights = [(1 - smoothing) * value / total + smoothing / count for value in raised]
        self._sums = [mass + weight for mass, weight in zip(self._sums, self._weights, strict=True)]
        self._step += 1
        return list(self._weights)

    def _compared_with(self) -> Sequence[float]:
        return self.references if self._settings.reference == "start" else [0.0] * len(self.groups)

    def means(self) -> tuple[float, ...]:
        """Mean weight of each group over the steps; those of the start before any."""
        return tuple(mass / self._step for mass in self._sums) if self._step else tuple(self._weights)

    def state(self) -> dict[str, Any]:
        """Everything that later GroupWeights need to go on."""
        return {
            "weights": list(self._weights),
            "sums": list(self._sums),
            "step": self._step,
            "references": list(self.references),
        }
