"""The gateway as a FastAPI app: health, metrics, the page, and the groups of routes behind gate and guards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Log
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters import problems
from mendloop.gateway.adapters.access import Access
from mendloop.gateway.adapters.access_routes import access_routes
from mendloop.gateway.adapters.event_routes import event_routes
from mendloop.gateway.adapters.gate import COOKIE, Gate
from mendloop.gateway.adapters.grpc_server import GrpcOptions, GrpcServer
from mendloop.gateway.adapters.grpc_service import LoopService
from mendloop.gateway.adapters.guards import Guards
from mendloop.gateway.adapters.headers import SecurityHeaders
from mendloop.gateway.adapters.hook_routes import hook_routes
from mendloop.gateway.adapters.page import shell_routes
from mendloop.gateway.adapters.page_routes import page_routes
from mendloop.gateway.adapters.report_routes import report_routes
from mendloop.gateway.adapters.run_routes import recipe_components, run_routes
from mendloop.gateway.adapters.streams import Streams
from mendloop.gateway.adapters.webhooks import Webhooks
from mendloop.gateway.domain.access_rules import rule_for
from mendloop.gateway.use_cases import Ports

_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
    "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
    "expose_headers": ["Location", "RateLimit", "RateLimit-Policy", "Retry-After"],
    "max_age": 600,
}
"""Other sites' pages that are allowed at all send a bearer token; cookies are never theirs."""


def build_app(
    ports: Ports,
    *,
    access: Access,
    history: Log,
    telemetry: Telemetry,
    allowed_hosts: Sequence[str] = (),
    max_body_bytes: int = 256 * 1024,
    body_timeout_s: float = 30.0,
    max_streams: int = 1000,
    keep_alive_s: float = 15.0,
    cors_origins: Sequence[str] = (),
    grpc: GrpcOptions | None = None,
    webhooks: Webhooks | None = None,
    store: ArtifactStore | None = None,
) -> FastAPI:
    """The app. It starts and stops the feed and the webhooks, and gRPC where it has options.

    history is a bus connection of its own for readers that catch up; with a store there are reports.
    """
    streams = Streams(ports.feed, max_streams=max_streams, keep_alive_s=keep_alive_s)
    service = LoopService(ports, history=history, streams=streams)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        streams.start()
        ports.feed.start()
        if webhooks is not None:
            webhooks.start()
        async with AsyncExitStack() as running:
            if grpc is not None:
                await running.enter_async_context(GrpcServer(service, entrance=access.entrance, options=grpc))
            yield
        if webhooks is not None:
            await webhooks.stop()
        streams.stop()
        ports.feed.stop()

    app = FastAPI(
        title="Mendloop gateway",
        version=version("mendloop"),
        summary="Start and watch runs of the data-evaluation loop.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,  # both load scripts from elsewhere; /openapi.json is the description
    )
    problems.install(app)
    app.state.streams, app.state.webhooks = streams, webhooks
    app.include_router(
        access_routes(access.entrance, key_store=access.key_store, audit=access.audit, clock=access.clock)
    )
    app.include_router(run_routes(ports))
    app.include_router(page_routes(ports))
    app.include_router(event_routes(ports, history=history, streams=streams))
    if store is not None:
        app.include_router(report_routes(ports, store=store))
    if webhooks is not None:
        app.include_router(hook_routes(webhooks.desk))
    app.include_router(shell_routes())
    _add_pages(app, ports=ports, telemetry=telemetry)
    description = app.openapi()  # FastAPI keeps what it made
    description["components"]["schemas"].update(recipe_components())
    _describe_access(description)
    app.add_middleware(
        Guards, allowed_hosts=allowed_hosts, max_body_bytes=max_body_bytes, body_timeout_s=body_timeout_s
    )
    app.add_middleware(Gate, entrance=access.entrance)
    app.add_middleware(SecurityHeaders)
    if cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=cors_origins, **_CORS)
    return app


def _describe_access(description: dict[str, Any]) -> None:
    """Says in the API description what each operation needs."""
    description["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "Local token, API key or OIDC token."},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Changes also need X-CSRF-Token."},
    }
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            scope = rule_for(method.upper(), path).scope
            operation["security"] = [{"bearer": []}, {"session": []}] if scope is not None else []
            if scope is not None:
                operation["x-scope"] = scope.word


def _add_pages(app: FastAPI, *, ports: Ports, telemetry: Telemetry) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, tags=["operations"], summary="The process answers")
    async def healthz() -> str:
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["operations"], summary="The log is followed")
    async def readyz(response: Response) -> str:
        if ports.feed.trouble:
            response.status_code = 503
            return "not ready: the log or the database is away; the gateway's log says more\n"
        is_ready = ports.feed.is_current and telemetry.is_ready()
        response.status_code = 200 if is_ready else 503
        return "ready\n" if is_ready else "not ready\n"

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operations"], summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        page, media_type = telemetry.page(request.headers.get("accept"))
        return Response(page, media_type=media_type)
