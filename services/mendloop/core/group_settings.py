"""What a recipe says about group DRO. Knows settings; knows no loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mendloop.core.sections import Section


class GroupDroSettings(Section):
    """Weights on the loss of groups of examples (Sagawa et al. 2020, arXiv 1911.08731), by excess loss (DoReMi)."""

    axis: str = Field(min_length=1, description="Axis of the training examples whose values are the groups.")
    reference: Literal["start", "none"] = Field(
        "start",
        description="What a group's loss is compared with: the start checkpoint's on it, so that weights move where a"
        " group gets worse; or nothing, so that they go to the highest loss.",
    )
    rate: float = Field(0.01, gt=0, description="Each step multiplies a group's weight by exp(rate * excess loss).")
    smoothing: float = Field(0.001, ge=0, lt=1, description="Share of the uniform weights mixed in at each step.")
