"""Fixtures that several suites share: a real Kafka broker, started once per session from its published jars."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mendloop.bus.broker import DEFAULT_CACHE, BrokerUnavailable, java, running_broker


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """HOST:PORT of a broker. Tests isolate themselves by the bus option name_prefix."""
    try:
        java()
    except BrokerUnavailable as error:
        pytest.skip(str(error))
    with running_broker(cache=Path(os.environ.get("MENDLOOP_CACHE") or DEFAULT_CACHE)) as bootstrap:
        yield bootstrap
