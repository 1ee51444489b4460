"""Which disks a service watches, and what it says of them."""

from __future__ import annotations

import os
from pathlib import Path

from mendloop.bus.disks import local_places, watch_disks
from mendloop.core.settings import ServiceSettings
from mendloop.core.telemetry import Telemetry


def test_places_are_the_folders_of_this_machine(tmp_path: Path) -> None:
    local = ServiceSettings(bus=f"local:{tmp_path}/bus.db", artifacts_uri=f"file://{tmp_path}/store", work_dir=tmp_path)
    assert local_places(local) == {"work": tmp_path, "bus": tmp_path, "artifacts": tmp_path / "store"}
    remote = ServiceSettings(bus="kafka:broker:9092", artifacts_uri="s3://bucket/store", work_dir=tmp_path)
    assert local_places(remote) == {"work": tmp_path}


def test_a_folder_that_is_not_there_yet_shows_the_disk_that_will_hold_it(tmp_path: Path) -> None:
    telemetry = Telemetry("trainer")
    watch_disks({"work": tmp_path / "later" / "deeper"}, telemetry=telemetry)
    labels = {"service": "trainer", "place": "work"}
    size = telemetry.registry.get_sample_value("mendloop_disk_size_bytes", labels)
    free = telemetry.registry.get_sample_value("mendloop_disk_free_bytes", labels)
    found = os.statvfs(tmp_path)
    assert size == found.f_blocks * found.f_frsize
    assert free is not None
    assert 0 <= free <= size
