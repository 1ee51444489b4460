"""A gateway over a bus in a file, with a task family that needs no package: for tests of gateway and submission."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from builders import example, item
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.types import ASGIApp, Receive, Scope, Send

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Log
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics
from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Split
from mendloop.core.telemetry import Telemetry
from mendloop.database.engine import open_engine
from mendloop.gateway import feed as feeds
from mendloop.gateway.adapters.access import Access, open_access
from mendloop.gateway.adapters.app import build_app
from mendloop.gateway.adapters.credentials import TokenReader
from mendloop.gateway.adapters.entrance import DEFAULT_RATES, Rates
from mendloop.gateway.adapters.letter_desk import LetterDesk
from mendloop.gateway.adapters.migrate import migrate
from mendloop.gateway.adapters.outcome_pages import StoredTables
from mendloop.gateway.adapters.retention import Keep
from mendloop.gateway.adapters.run_book import RunBook
from mendloop.gateway.adapters.run_events import RunEvents
from mendloop.gateway.adapters.run_queries import RunQueries
from mendloop.gateway.adapters.submitting import Submission
from mendloop.gateway.adapters.webhooks import WebhookOptions, Webhooks
from mendloop.gateway.domain.keys import token_of
from mendloop.gateway.feed import Feed
from mendloop.gateway.shared_pages import SharedPages
from mendloop.gateway.use_cases import Ports

LOCAL_TOKEN = token_of("local", "0123456789abcdef" * 4)
SPLITS: tuple[Split, ...] = ("search", "confirm", "sealed")


class CountingTask:
    """Items and examples are numbers in words; options choose what goes wrong."""

    stop_strings = ()

    def corpus(self, options: Mapping[str, Any]) -> list[Example]:
        """Ten examples and one evaluation item; the option source=missing finds none."""
        if options.get("source") == "missing":
            raise InvalidRecipe("the corpus file missing.jsonl does not exist")
        return [example("item search 0"), *(example(f"number {n}", completion=str(n)) for n in range(10))]

    def pool(self, options: Mapping[str, Any]) -> list[Example]:
        """Two evaluation items and one other example."""
        return [example("item confirm 1"), example("Item  SEALED 2"), example("spare")]

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """As many as asked for, at most 700 of a split."""
        return [
            item(f"{split}-{n}", prompt=f"item {split} {n}", split=split, verb="jump" if n % 2 else "walk")
            for split in SPLITS
            for n in range(min(700, counts[split]))
        ]

    def annotate(self, prompt: str) -> Axes:
        """A number has no verb."""
        return {}


def model_directory(parent: Path, *, name: str = "model", weights: bytes = b"weights") -> Path:
    """A checkpoint directory; without weights where they are empty."""
    directory = parent / name
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    if weights:
        (directory / "model.safetensors").write_bytes(weights)
    return directory


def recipe_document(**changes: Any) -> dict[str, Any]:
    """A recipe for CountingTask as JSON values."""
    return {
        "name": "tiny",
        "task": "counting",
        "base": {"model": "model"},
        "suite": {"axes": ["verb"], "search": 40, "confirm": 20, "sealed": 20},
        **changes,
    }


@dataclass(frozen=True, slots=True)
class Parts:
    """A gateway's parts in one folder."""

    app: FastAPI
    bus: LocalBus
    feed: Feed
    ports: Ports
    store: ArtifactStore
    access: Access


@cache
def _migrated() -> bytes:
    """A migrated SQLite file: migrating it for each test takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/gateway.db")
        migrate(engine)
        engine.dispose()
        return (Path(folder) / "gateway.db").read_bytes()


def database(folder: Path, *, url: str = "") -> Engine:
    """The migrated database of a URL, or the SQLite file of the folder."""
    path = folder / "gateway.db"
    if not url and not path.exists():
        path.write_bytes(_migrated())
    engine = open_engine(url or f"sqlite:///{path}")
    if url:
        migrate(engine)
    return engine


class WithToken:
    """Shows the local token for whoever shows nothing (plain ASGI): for tests that are not about access."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and not {b"authorization", b"cookie"} & {name for name, _ in scope["headers"]}:
            scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {LOCAL_TOKEN}".encode())]
        await self._app(scope, receive, send)


def gateway(
    folder: Path,
    *,
    url: str = "",
    keep: Keep | None = None,
    is_open: bool = True,
    rates: Rates = DEFAULT_RATES,
    reader: TokenReader | None = None,
    clock: Callable[[], float] = time.time,
    webhooks: WebhookOptions | None = None,
    history: Log | None = None,
    **options: Any,
) -> Parts:
    """A gateway of the folder; several of one folder share bus, stores and database, like one that was restarted.

    is_open shows the local token for who shows nothing.
    """
    bus, history = LocalBus(folder / "bus.db"), history or SharedPages(LocalBus(folder / "bus.db"))
    bus.ensure_topics(all_topics())
    store = ArtifactStore(folder / "artifacts")
    telemetry = Telemetry("gateway")
    engine = database(folder, url=url)
    book = RunBook(bus, engine, store=store, recall_count=feeds.KEEP_EVENTS, keep=keep, telemetry=telemetry)
    feed = Feed(book, telemetry=telemetry)
    submission = Submission(bus, store, ArtifactStore(folder / "sealed"), folder)
    ports = Ports(
        bus,
        feed,
        submission,
        store,
        pages=RunQueries(engine),
        run_logs=RunEvents(engine, followed=book, log=history),
        tables=StoredTables(store),
        letters=LetterDesk(bus, engine),
    )
    access = open_access(engine, feed=feed, local_token=LOCAL_TOKEN, rates=rates, reader=reader, clock=clock)
    if webhooks is not None:
        options["webhooks"] = Webhooks(engine, feed=feed, history=history, telemetry=telemetry, options=webhooks)
    app = build_app(ports, access=access, history=history, telemetry=telemetry, store=store, **options)
    if is_open:
        app.add_middleware(WithToken)
    return Parts(app, bus, feed, ports, store, access)
