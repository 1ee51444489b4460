"""Owns the weights of the lowest held-out loss, where a training may stop early. Knows tensors; knows no loss.

They lie in main memory of the first process and in every resume point, so that a killed training keeps the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FILE = "lowest-held-out-loss.safetensors"


class BestWeights:
    """What trains, as it was at the lowest held-out loss; empty until one is measured."""

    def __init__(self, point: Path | None = None) -> None:
        """As a resume point left them, or empty."""
        is_there = point is not None and (point / FILE).exists()
        self.weights: dict[str, torch.Tensor] = load_file(point / FILE) if is_there and point else {}

    def keep(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy these in place of the earlier ones."""
        self.weights = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in weights.items()}

    def write(self, folder: Path) -> None:
        """Put them into a resume point's folder."""
        if self.weights:
            save_file(self.weights, folder / FILE)

    def put_into(self, model: torch.nn.Module) -> None:
        """Give the model these weights; what does not train stays."""
        trained = trainable(model)
        with torch.no_grad():
            for name, value in self.weights.items():
                trained[name].copy_(value)


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that a training changes, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
