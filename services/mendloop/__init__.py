"""Mendloop: measure a checkpoint, diagnose why it fails, fix the data (or not), verify before promoting.

`from mendloop import Client, AsyncClient` loads the client of a gateway (mendloop[client]) at that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mendloop.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mendloop import client

        return getattr(client, name)
    raise AttributeError(f"module 'mendloop' has no attribute {name!r}")
