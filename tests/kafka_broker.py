"""What tests that start a Kafka broker share: where its jars are kept, and the skip where no broker can run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mendloop.bus.broker import DEFAULT_CACHE, BrokerUnavailable, java

CACHE = Path(os.environ.get("MENDLOOP_CACHE") or DEFAULT_CACHE)


def require_java() -> None:
    """Skip the test where there is no Java runtime; the reason says what to install."""
    try:
        java()
    except BrokerUnavailable as error:
        pytest.skip(str(error))
