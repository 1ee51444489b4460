"""The gateway as a FastAPI app: health, metrics, and the two groups of routes behind their guards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Bus
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters import problems
from mendloop.gateway.adapters.event_routes import event_routes
from mendloop.gateway.adapters.guards import Guards
from mendloop.gateway.adapters.hook_routes import hook_routes
from mendloop.gateway.adapters.report_routes import report_routes
from mendloop.gateway.adapters.run_routes import recipe_components, run_routes
from mendloop.gateway.adapters.streams import Streams
from mendloop.gateway.adapters.webhooks import Webhooks
from mendloop.gateway.use_cases import Ports


def build_app(
    ports: Ports,
    *,
    history: Bus,
    telemetry: Telemetry,
    allowed_hosts: Sequence[str] = (),
    max_body_bytes: int = 256 * 1024,
    body_timeout_s: float = 30.0,
    max_streams: int = 1000,
    keep_alive_s: float = 15.0,
    webhooks: Webhooks | None = None,
    store: ArtifactStore | None = None,
) -> FastAPI:
    """The app. It starts and stops the feed and the webhooks; history is a bus connection of its own for readers that
    catch up, and with a store there are reports."""
    streams = Streams(ports.feed, max_streams=max_streams, keep_alive_s=keep_alive_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        streams.start()
        ports.feed.start()
        if webhooks is not None:
            webhooks.start()
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
    app.include_router(run_routes(ports))
    app.include_router(event_routes(ports, history=history, streams=streams))
    if store is not None:
        app.include_router(report_routes(ports, store=store))
    if webhooks is not None:
        app.include_router(hook_routes(webhooks.desk))
    _add_pages(app, ports=ports, telemetry=telemetry)
    description = app.openapi()  # FastAPI keeps what it made
    description["components"]["schemas"].update(recipe_components())
    app.add_middleware(
        Guards, allowed_hosts=allowed_hosts, max_body_bytes=max_body_bytes, body_timeout_s=body_timeout_s
    )
    return app


def _add_pages(app: FastAPI, *, ports: Ports, telemetry: Telemetry) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, tags=["operations"], summary="The process answers")
    async def healthz() -> str:
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["operations"], summary="The log is followed")
    async def readyz(response: Response) -> str:
        is_ready = ports.feed.is_current and telemetry.is_ready()
        response.status_code = 200 if is_ready else 503
        return "ready\n" if is_ready else "not ready\n"

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operations"], summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)
