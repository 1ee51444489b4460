"""The settings class of each service, for tests that hold manifests against it."""

from __future__ import annotations

import importlib

from mendloop.core.settings import ServiceSettings


def settings_of(service: str) -> type[ServiceSettings]:
    """The class that the service's __main__ builds."""
    module = importlib.import_module(f"mendloop.{service.replace('-', '_')}.settings")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value is not ServiceSettings
    )
