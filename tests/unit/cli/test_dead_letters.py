"""Dead letters can be read and sent again to the service that refused them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Event, Worker
from mendloop.cli.dead_letters import as_json, find_letter, letters, replay
from mendloop.core.contracts import retry_topic
from mendloop.core.errors import InvalidEvent, Permanent
from mendloop.core.events import envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.v1 import common_pb2, loop_pb2


def _bus_with_refused_event(tmp_path: Path) -> LocalBus:
    bus = LocalBus(tmp_path / "bus.db")
    message = loop_pb2.LoopCancelled(position=common_pb2.RunPosition(run_id="r1"), reason="enough")
    bus.publish([envelope_for(message, event_id="e1", source="gateway", key="r1")])

    def refuse(event: Event) -> list[object]:
        worker.stop()
        raise Permanent("budget is a fish")

    worker = Worker(
        service="controller",
        bus=bus,
        handlers={loop_pb2.LoopCancelled: refuse},  # type: ignore[dict-item]  # it returns nothing
        receipts=StoredReceipts(ArtifactStore(tmp_path / "store")),
        telemetry=Telemetry("controller"),
        member="m",
    )
    worker.run()
    return bus


def test_letter_tells_reason_handler_and_event(tmp_path: Path) -> None:
    bus = _bus_with_refused_event(tmp_path)
    (letter,) = letters(bus)
    shown = json.loads(as_json(letter))
    assert letter.run_id == "r1"
    assert shown["reason"] == "Permanent: budget is a fish"
    assert (shown["handler"], shown["topic"]) == ("controller", "mendloop.loop-cancelled.v1")
    assert shown["event"]["reason"] == "enough"


def test_letter_is_found_by_the_start_of_its_id(tmp_path: Path) -> None:
    bus = _bus_with_refused_event(tmp_path)
    (letter,) = letters(bus)
    assert find_letter(bus, letter.letter_id[:8]) == letter
    with pytest.raises(InvalidEvent, match="0 dead letters start with 'zzz'"):
        find_letter(bus, "zzz")


def test_replay_gives_the_original_bytes_to_the_refusing_service_alone(tmp_path: Path) -> None:
    bus = _bus_with_refused_event(tmp_path)
    (letter,) = letters(bus)
    replay(bus, letter)
    (delivery,) = bus.read([retry_topic("controller")])
    assert delivery.envelope.value == letter.message.value
    assert delivery.envelope.event_id == "e1"
    assert delivery.envelope.attempt == 0
    assert len(bus.read(["mendloop.loop-cancelled.v1"])) == 1
