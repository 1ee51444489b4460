"""Bells: a commit wakes who waits; without them a member still looks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from run_events import requested

from mendloop.bus.bells import Bell, ring
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import TRAINER, consumed_by

LONGER_THAN_A_TEST_MAY_TAKE_S = 3600.0


def test_a_ring_from_elsewhere_ends_a_wait(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bells")
    threading.Timer(0.05, ring, [tmp_path / "bells"]).start()
    bell.wait(LONGER_THAN_A_TEST_MAY_TAKE_S)
    bell.close()


def test_a_ring_before_the_wait_is_heard_however_often_it_came(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bells")
    for _ in range(5_000):  # more than one read takes
        ring(tmp_path / "bells")
    bell.wait(LONGER_THAN_A_TEST_MAY_TAKE_S)
    assert bell.can_ring
    bell.close()


def test_the_bell_of_a_killed_process_is_taken_away(tmp_path: Path) -> None:
    folder = tmp_path / "bells"
    heard, killed = Bell(folder), folder / "1-killed"
    os.mkfifo(killed)
    ring(folder)
    assert not killed.exists()
    heard.wait(LONGER_THAN_A_TEST_MAY_TAKE_S)
    heard.close()
    assert list(folder.iterdir()) == []


def test_what_is_published_or_completed_rings(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.db")
    consumer, heard = bus.consumer(TRAINER, consumed_by(TRAINER), member="m"), bus.bell()
    LocalBus(tmp_path / "bus.db").publish([requested()])
    heard.wait(LONGER_THAN_A_TEST_MAY_TAKE_S)
    delivery = consumer.poll(timeout_s=LONGER_THAN_A_TEST_MAY_TAKE_S)
    assert delivery is not None
    consumer.complete(delivery)
    heard.wait(LONGER_THAN_A_TEST_MAY_TAKE_S)


def test_a_member_polls_where_a_folder_takes_no_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError("no pipes here")

    monkeypatch.setattr(os, "mkfifo", refuse)
    bus = LocalBus(tmp_path / "bus.db")
    consumer = bus.consumer(TRAINER, consumed_by(TRAINER), member="m")
    threading.Timer(0.05, LocalBus(tmp_path / "bus.db").publish, [[requested()]]).start()
    delivery = consumer.poll(timeout_s=60)
    assert delivery is not None
    consumer.close()
