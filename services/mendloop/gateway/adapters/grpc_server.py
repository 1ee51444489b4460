"""The gRPC server beside the app, in its event loop: LoopService behind the gate, health and reflection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mendloop.gateway.adapters.entrance import Entrance
from mendloop.gateway.adapters.grpc_gate import GrpcGate
from mendloop.v1 import loop_service_pb2
from mendloop.v1.loop_service_pb2_grpc import LoopServiceServicer, add_LoopServiceServicer_to_server

log = logging.getLogger(__name__)
STOP_GRACE_S = 2.0
NAME = loop_service_pb2.DESCRIPTOR.services_by_name["LoopService"].full_name


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Where and how gRPC is served. Port 0 takes a free one; `started` gets the one that was taken."""

    host: str = "127.0.0.1"
    port: int = 0
    max_message_bytes: int = 256 * 1024
    tls: Tls | None = None
    started: Callable[[int], None] = lambda port: None


class GrpcServer:
    """Serves from entering to leaving."""

    def __init__(
        self,
        service: LoopServiceServicer,
        *,
        entrance: Entrance,
        options: GrpcOptions,
    ) -> None:
        self._service, self._entrance, self._options = service, entrance, options
        host = f"[{options.host}]" if ":" in options.host else options.host
        self._address = f"{host}:{options.port}"
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        """Begin to serve. Raises SystemExit where the port is taken."""
        self._server = server = grpc.aio.server(
            interceptors=[GrpcGate(self._entrance)],
            options=[
                ("grpc.max_receive_message_length", self._options.max_message_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        add_LoopServiceServicer_to_server(self._service, server)
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        for name in ("", NAME):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection([NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        port = self._bind(server)
        await server.start()
        log.info("gRPC is served", extra={"address": self._address, "port": port})
        self._options.started(port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: calls under way get some seconds; streams end by themselves, for the feed is stopping."""
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            tls = self._options.tls
            if tls is None:
                return int(server.add_insecure_port(self._address))
            pair = (tls.key, tls.certificate)
            return int(server.add_secure_port(self._address, grpc.ssl_server_credentials([pair])))
        except RuntimeError as error:
            raise SystemExit(
                f"cannot serve gRPC on {self._address}: {error}; set MENDLOOP_GRPC_PORT (0: a free one)"
            ) from None
