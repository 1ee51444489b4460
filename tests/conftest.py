"""Fixtures that several suites share: a real Kafka broker, started once per session from its published jars."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka_broker import CACHE, require_java

from mendloop.bus.broker import running_broker


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """HOST:PORT of a broker. Tests isolate themselves by the bus option name_prefix."""
    require_java()
    with running_broker(cache=CACHE) as bootstrap:
        yield bootstrap
