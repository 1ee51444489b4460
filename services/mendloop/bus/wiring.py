"""Plain wiring that every service's __main__ calls: open the bus and the stores, run the loop, stop on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from google.protobuf.message import Message

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Bus
from mendloop.bus.local import LocalBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Handler, Worker
from mendloop.core.errors import InvalidRecipe
from mendloop.core.settings import ServiceSettings
from mendloop.core.telemetry import Telemetry, log_to_stderr

log = logging.getLogger(__name__)


def open_bus(url: str, *, options: Mapping[str, str] | None = None) -> Bus:
    """The bus of a URL: local:PATH or kafka:HOST:PORT. Raises InvalidRecipe for anything else."""
    kind, _, place = url.partition(":")
    if kind == "local" and place:
        return LocalBus(Path(place))
    if kind == "kafka" and place:
        from mendloop.bus.kafka import KafkaBus  # a subscriber on the local bus needs no broker client

        return KafkaBus(place, options=options or {})
    raise InvalidRecipe(f"MENDLOOP_BUS is {url!r}; it must be local:PATH or kafka:HOST:PORT")


def open_store(uri: str) -> ArtifactStore:
    """The artifact store of a URI or plain path."""
    plain = uri.removeprefix("file://")
    return ArtifactStore(Path(plain) if "://" not in plain else uri)


def run_service(
    settings: ServiceSettings,
    *,
    service: str,
    handlers: Mapping[type[Message], Handler],
    telemetry: Telemetry | None = None,
) -> None:
    """Run a service's handlers until SIGTERM or SIGINT, or until it is idle; unfinished work is given back."""
    log_to_stderr(service, level=settings.log_level)
    telemetry = telemetry or Telemetry(service)
    server = telemetry.serve(host=settings.metrics_host, port=settings.metrics_port)
    if settings.metrics_port_file is not None:
        settings.metrics_port_file.write_text(str(server.server_address[1]))
    bus = open_bus(settings.bus, options=settings.bus_options)
    worker = Worker(
        service=service,
        bus=bus,
        handlers=handlers,
        receipts=StoredReceipts(open_store(settings.artifacts_uri)),
        telemetry=telemetry,
        member=settings.member or f"{service}-{socket.gethostname()}-{os.getpid()}",
        exit_when_idle_s=settings.exit_when_idle_s,
    )

    def stop(signum: int, frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("service starts", extra={"bus": settings.bus, "metrics_port": server.server_address[1]})
    try:
        worker.run()
    finally:
        bus.close()
        server.shutdown()
        log.info("service stopped")
