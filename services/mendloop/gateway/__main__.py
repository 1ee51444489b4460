"""Wires the gateway from the environment and serves it until SIGTERM; `migrate` only prepares its database."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from mendloop.bus.base import Bus
from mendloop.bus.disks import local_places, watch_disks
from mendloop.bus.runtime import BUS_RETRY_S
from mendloop.bus.wiring import open_bus, open_store
from mendloop.core.contracts import GATEWAY, all_topics
from mendloop.core.errors import InvalidRecipe, Retryable
from mendloop.core.telemetry import Telemetry, log_to_stderr
from mendloop.database.engine import open_engine
from mendloop.gateway.adapters.access import open_access
from mendloop.gateway.adapters.app import build_app
from mendloop.gateway.adapters.credentials import TokenReader
from mendloop.gateway.adapters.entrance import DEFAULT_RATES, Rates
from mendloop.gateway.adapters.grpc_server import GrpcOptions, Tls
from mendloop.gateway.adapters.hook_desk import Limits
from mendloop.gateway.adapters.hook_round import Rules
from mendloop.gateway.adapters.lazy_tables import LazyTables
from mendloop.gateway.adapters.letter_desk import LetterDesk
from mendloop.gateway.adapters.local_token import local_token
from mendloop.gateway.adapters.migrate import migrate
from mendloop.gateway.adapters.retention import Keep
from mendloop.gateway.adapters.run_book import RunBook
from mendloop.gateway.adapters.run_events import RunEvents
from mendloop.gateway.adapters.run_figures import RunFigures
from mendloop.gateway.adapters.run_queries import RunQueries
from mendloop.gateway.adapters.submitting import Submission
from mendloop.gateway.adapters.view_cache import ViewCache
from mendloop.gateway.adapters.webhooks import WebhookOptions, Webhooks
from mendloop.gateway.domain.access import Scope
from mendloop.gateway.domain.addresses import networks_of
from mendloop.gateway.domain.rates import Rate
from mendloop.gateway.feed import KEEP_EVENTS, Feed
from mendloop.gateway.observer import Observer
from mendloop.gateway.settings import GatewaySettings
from mendloop.gateway.shared_pages import SharedPages
from mendloop.gateway.use_cases import Ports

log = logging.getLogger(__name__)
STOP_GRACE_S = 5
TICK_S = 1.0
BURST_S = 5
"""How many seconds' requests may come at once."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Server(uvicorn.Server):
    """uvicorn that tells the feed to end, so that open streams end too instead of being waited for.

    Its own loop looks ten times a second whether to exit, a third of what an idle gateway takes; this one is woken.
    """

    def __init__(self, config: uvicorn.Config, *, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed
        self._wake: Callable[[], object] = lambda: None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""
        self._feed.ask_stop()
        super().handle_exit(sig, frame)
        self._wake()

    async def main_loop(self) -> None:
        """Set the date of answers every second, until somebody asks to exit."""
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(asked.set)
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await asked.wait()


def main() -> None:
    """Migrate the database, then serve the gateway."""
    words = sys.argv[1:]
    if words not in ([], ["migrate"]):
        sys.exit(f"unknown argument(s) {' '.join(words)!r}; give none, or `migrate`")
    settings = GatewaySettings.from_environment()
    log_to_stderr(GATEWAY, level=settings.log_level)
    engine = open_engine(settings.database_url)
    migrate(engine)
    if words:
        return
    telemetry = Telemetry(GATEWAY)
    _serve_metrics(settings, telemetry)  # first: whoever probes must see a gateway that waits for its bus as alive
    bus = open_bus(settings.bus, options=settings.bus_options)
    history = open_bus(settings.bus, options=settings.bus_options)
    pages = SharedPages(history)
    _await_topics(bus, telemetry)
    store = open_store(settings.artifacts_uri)
    submission = Submission(bus, store, open_store(settings.sealed_artifacts_uri), settings.models_dir)
    keep = Keep(runs=settings.keep_runs, days=settings.keep_days)
    is_whole = settings.bus.startswith("local:")
    views = ViewCache()
    book = RunBook(
        bus,
        engine,
        store=store,
        is_log_whole=is_whole,
        recall_count=KEEP_EVENTS,
        keep=keep,
        telemetry=telemetry,
        cache=views,
    )
    feed = Feed(book, telemetry=telemetry)
    ports = Ports(
        bus,
        feed,
        submission,
        store,
        pages=RunQueries(engine),
        run_logs=RunEvents(engine, followed=book, log=pages),
        tables=LazyTables(store),
        letters=LetterDesk(bus, engine),
    )
    token = local_token(settings.token_file) if settings.access == "local" else ""
    app = build_app(
        ports,
        access=open_access(engine, feed=feed, local_token=token, reader=_reader(settings), rates=_rates(settings)),
        history=pages,
        telemetry=telemetry,
        allowed_hosts=_allowed_hosts(settings),
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        max_streams=settings.max_streams,
        keep_alive_s=settings.keep_alive_s,
        cors_origins=settings.cors_origins,
        grpc=GrpcOptions(
            settings.host,
            settings.grpc_port,
            settings.max_body_bytes,
            _tls(settings),
            started=lambda port: _leave_port(settings.grpc_port_file, port),
        ),
        store=store,
        webhooks=Webhooks(engine, feed=feed, history=pages, telemetry=telemetry, options=_webhook_options(settings)),
    )
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    _leave_port(settings.port_file, port)
    if settings.metrics_port == 0:
        _leave_port(settings.metrics_port_file, port)
    log.info("service starts", extra={"bus": settings.bus, "host": settings.host, "port": port})
    _announce(settings, port=port, token=token)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_GRACE_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    watch_disks(local_places(settings), telemetry=telemetry)
    observer = Observer(bus, feed, RunFigures(engine, views), telemetry=telemetry)
    observer.start()
    gc.freeze()  # what was imported is never garbage; collections look at less
    try:
        Server(config, feed=feed).run(sockets=[listener])
    finally:
        feed.stop()
        observer.stop()
        history.close()
        bus.close()
        engine.dispose()
        log.info("service stopped")


def _exit(number: int, frame: FrameType | None) -> None:
    """Before uvicorn listens to signals, and after it, when it raises them again: an orderly end is no failure."""
    raise SystemExit(0)


def _rates(settings: GatewaySettings) -> Rates:
    credential, address = (
        Rate(per_s, burst=math.ceil(BURST_S * per_s)) for per_s in (settings.credential_rate, settings.address_rate)
    )
    return Rates(credential, address, DEFAULT_RATES.failure)


def _reader(settings: GatewaySettings) -> TokenReader | None:
    if not settings.oidc_issuer:
        return None
    from mendloop.gateway.adapters.oidc import Issuer, OidcReader  # 10 MB with cryptography, which few gateways need

    return OidcReader(
        Issuer(
            settings.oidc_issuer,
            settings.oidc_audience,
            settings.oidc_jwks_url,
            algorithms=tuple(settings.oidc_algorithms),
            scope_claim=settings.oidc_scope_claim,
            scopes={value: Scope.of(word) for value, word in settings.oidc_scopes.items()},
            name_claim=settings.oidc_name_claim,
            runs_claim=settings.oidc_runs_claim,
            runs=settings.oidc_runs,
        )
    )


def _tls(settings: GatewaySettings) -> Tls | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Tls(settings.tls_cert_file.read_bytes(), settings.tls_key_file.read_bytes())


def _announce(settings: GatewaySettings, *, port: int, token: str) -> None:
    """Where to go, for the person who started us in a terminal; a log file must not hold the token."""
    scheme = "http" if settings.tls_cert_file is None else "https"
    url = f"{scheme}://{settings.host}:{port}/"
    if token and sys.stdout.isatty():
        print(f"{url}#token={token}", flush=True)
    elif token:
        log.info("the local token opens everything", extra={"url": url, "token_file": str(settings.token_file)})


def _allowed_hosts(settings: GatewaySettings) -> tuple[str, ...]:
    if settings.allowed_hosts or not settings.is_loopback:
        return tuple(settings.allowed_hosts)
    return LOOPBACK


def _webhook_options(settings: GatewaySettings) -> WebhookOptions:
    try:
        networks = networks_of(settings.webhook_allowed_networks)
    except ValueError as error:
        raise InvalidRecipe(f"MENDLOOP_WEBHOOK_ALLOWED_NETWORKS: {error}; write 10.1.0.0/16") from error
    return WebhookOptions(
        allowed_networks=networks,
        keys=[key.get_secret_value() for key in settings.webhook_keys],
        limits=Limits(settings.webhook_limit, settings.webhook_allow_http),
        rules=Rules(settings.webhook_retry_for_s, settings.public_url),
        timeout_s=settings.webhook_timeout_s,
        owner=f"{settings.member or socket.gethostname()}-{secrets.token_hex(4)}",
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise SystemExit(
            f"cannot listen on {host}:{port}: {error.strerror}; set MENDLOOP_PORT (0: a free one)"
        ) from None
    listener.listen(1024)
    return listener


def _await_topics(bus: Bus, telemetry: Telemetry) -> None:
    """Wait for a bus that is away, as the services do; a broker may start beside the gateway."""
    while True:
        try:
            bus.ensure_topics(all_topics())
            return
        except Retryable as error:
            telemetry.bus_failed()
            log.warning("the bus is away", extra={"service": GATEWAY, "reason": str(error)})
            time.sleep(BUS_RETRY_S)


def _serve_metrics(settings: GatewaySettings, telemetry: Telemetry) -> None:
    """A second server for metrics and health, where one is asked for; else the gateway's own port has the pages."""
    if settings.metrics_port == 0:
        return
    server = telemetry.serve(host=settings.metrics_host, port=settings.metrics_port)
    _leave_port(settings.metrics_port_file, server.server_address[1])


def _leave_port(path: Path | None, port: int) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(str(port))
    os.replace(partial, path)


if __name__ == "__main__":
    main()
