"""Options of the Kafka client as text from the environment."""

from __future__ import annotations

import pytest

from mendloop.bus.kafka import KafkaBus
from mendloop.core.errors import InvalidRecipe, Retryable


@pytest.mark.parametrize("name", ["sesion_timeout_ms", "group_id", "enable_auto_commit", "isolation_level"])
def test_unknown_option_or_one_that_the_bus_sets_is_refused(name: str) -> None:
    with pytest.raises(InvalidRecipe, match=name):
        KafkaBus("127.0.0.1:1", options={name: "1"})


def test_option_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="session_timeout_ms is 'soon'; it must be a int"):
        KafkaBus("127.0.0.1:1", options={"session_timeout_ms": "soon"})


def test_absent_broker_is_retryable_and_named() -> None:
    bus = KafkaBus("127.0.0.1:1", options={"bootstrap_timeout_ms": "300"})
    with pytest.raises(Retryable, match=r"127\.0\.0\.1:1 .*check that the broker runs there"):
        bus.ensure_topics(["t"])
