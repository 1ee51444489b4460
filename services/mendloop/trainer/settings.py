"""Settings of the trainer."""

from __future__ import annotations

from pydantic import Field

from mendloop.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """How this machine trains; what is trained stands in the recipe."""

    torch_threads: int = Field(0, ge=0, description="CPU threads of a training; 0 leaves them to torch.")
