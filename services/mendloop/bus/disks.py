"""How full the disks are that hold the bus file, the work folder and local artifacts. Knows places; writes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mendloop.core.settings import ServiceSettings
from mendloop.core.telemetry import Telemetry


def watch_disks(places: Mapping[str, Path], *, telemetry: Telemetry) -> None:
    """Show free bytes and size of the disk of each place, read at each scrape; NaN where it cannot be read."""
    for place, path in places.items():
        telemetry.watch("mendloop_disk_free_bytes", partial(_bytes, path, "f_bavail"), place=place)
        telemetry.watch("mendloop_disk_size_bytes", partial(_bytes, path, "f_blocks"), place=place)


def local_places(settings: ServiceSettings) -> dict[str, Path]:
    """The folders of this machine that a service writes to, by what they hold: work, bus, artifacts."""
    found = {"work": settings.work_dir}
    kind, _, place = settings.bus.partition(":")
    if kind == "local":
        found["bus"] = Path(place).parent
    artifacts = settings.artifacts_uri.removeprefix("file://")
    if "://" not in artifacts:
        found["artifacts"] = Path(artifacts)
    return found


def _bytes(path: Path, count: str) -> float:
    """A count of blocks of the file system as bytes; the nearest folder that exists stands for the path."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError:
        return float("nan")
    return float(getattr(found, count) * found.f_frsize)
