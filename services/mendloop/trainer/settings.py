"""Settings of the trainer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mendloop.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """How this machine trains; what is trained stands in the recipe."""

    trainer_processes: int = Field(
        1, ge=1, description="Processes that train a job together, one a GPU; batch_size must be a multiple of it."
    )
    trainer_strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="Whether each process holds the whole model (ddp) or a part of it (fsdp)."
    )
    trainer_peak_flops: float = Field(
        0.0, ge=0, description="Peak FLOPs a second of all processes together, for the MFU; 0: not known."
    )
    torch_threads: int = Field(0, ge=0, description="CPU threads of a training; 0 leaves them to torch.")
