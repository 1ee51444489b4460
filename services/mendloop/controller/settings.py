"""The controller's settings."""

from __future__ import annotations

from pydantic import Field

from mendloop.core.settings import ServiceSettings


class ControllerSettings(ServiceSettings):
    """What the controller needs beside what every service needs."""

    database_url: str = Field(
        "sqlite:///.mendloop/controller.db", description="sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE."
    )
