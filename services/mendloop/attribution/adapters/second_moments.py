"""Adam's second moments as scales of a module's two sides, so that gradients stay outer products.

Adam divides a gradient by sqrt(v). v is approximated by its row and column means (Adafactor: Shazeer & Stern 2018);
each of two gradients that meet in an inner product takes the fourth root, so that together they make sqrt(v).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mendloop.core.errors import Permanent

FILE = "optimizer.pt"


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors of a module's inputs [I] and output gradients [O]."""

    inputs_I: torch.Tensor
    outputs_O: torch.Tensor


def scales_of(name: str, moments_OI: torch.Tensor | None) -> Scales:
    """The scales of a linear module from the second moments of its weight. Raises Permanent where it has none."""
    mean = 0.0 if moments_OI is None else float(moments_OI.double().mean())
    if moments_OI is None or not mean > 0:
        raise Permanent(f"{name}.weight has no second moments, or only zeros: leave the module out of layers")
    # a row that never got a gradient has no scale of its own
    sides = [moments_OI.double().mean(dim=side).clamp(min=mean * 1e-6) for side in (0, 1)]
    inputs_I, outputs_O = ((side / mean**0.5) ** -0.25 for side in sides)
    return Scales(inputs_I.float(), outputs_O.float())


def stored_moments(directory: Path, model: Any) -> dict[str, torch.Tensor]:
    """exp_avg_sq of every matrix from a checkpoint's optimizer.pt (torch's AdamW, in the Trainer's parameter groups).

    Raises Permanent where there is none, or where its shapes are not the model's.
    """
    path = directory / FILE
    if not path.is_file():
        raise Permanent(f"{directory} holds no {FILE}: keep the optimizer state, or index without uses_adam")
    state = torch.load(path, map_location="cpu", weights_only=True)["state"]
    stored = [state[at]["exp_avg_sq"] for at in sorted(state) if state[at]["exp_avg_sq"].dim() == 2]
    named = [(name, weight) for name, weight in model.named_parameters() if weight.dim() == 2]
    if [tuple(one.shape) for one in stored] != [tuple(weight.shape) for _, weight in named]:
        raise Permanent(
            f"{path} holds second moments of other shapes than the model's matrices: it is not this model's"
        )
    return {name: moments for (name, _), moments in zip(named, stored, strict=True)}
