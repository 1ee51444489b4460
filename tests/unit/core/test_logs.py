"""What of other people's logging reaches ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from mendloop.core.telemetry import log_to_stderr


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Loggers as pytest left them."""
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    level, handlers, of_kafka = root.level, list(root.handlers), kafka.level
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    kafka.setLevel(of_kafka)


@pytest.mark.parametrize(("level", "told"), [("INFO", False), ("DEBUG", True)])
def test_the_kafka_client_tells_of_connections_only_where_somebody_debugs(level: str, told: bool) -> None:
    log_to_stderr("gateway", level=level)
    assert logging.getLogger("kafka.conn").isEnabledFor(logging.INFO) is told
    assert logging.getLogger("kafka.conn").isEnabledFor(logging.WARNING)
    assert logging.getLogger("mendloop").isEnabledFor(logging.INFO)
