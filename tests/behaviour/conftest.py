"""The buses that the bus suite runs on."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from behaviour_buses import BusFactory


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.integration)])
def bus_factory(request: pytest.FixtureRequest, tmp_path: Path) -> BusFactory:
    """Opens one empty bus as often as a test likes, each time as another process would."""
    if request.param == "local":
        return BusFactory(f"local:{tmp_path}/bus.db", {"lease_s": "1.5"})
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    options = {
        "name_prefix": f"t{secrets.token_hex(4)}.",
        "session_timeout_ms": "1500",
        "heartbeat_interval_ms": "300",
        "partition_count": "4",
    }
    return BusFactory(f"kafka:{bootstrap}", options)
