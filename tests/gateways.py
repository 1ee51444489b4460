"""A gateway over a bus in a file, with a task family that needs no package: for tests of gateway and submission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders import example, item
from fastapi import FastAPI

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics
from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Split
from mendloop.core.telemetry import Telemetry
from mendloop.database.engine import open_engine
from mendloop.gateway.adapters.app import build_app
from mendloop.gateway.adapters.migrate import migrate
from mendloop.gateway.adapters.submitting import Submission
from mendloop.gateway.adapters.webhooks import WebhookOptions, Webhooks
from mendloop.gateway.feed import Feed
from mendloop.gateway.use_cases import Ports
from mendloop.runs.log import RunLog

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


def gateway(folder: Path, *, webhooks: WebhookOptions | None = None, **options: Any) -> Parts:
    """A gateway of the folder; several of one folder share bus and stores, like one that was restarted."""
    bus, history = LocalBus(folder / "bus.db"), LocalBus(folder / "bus.db")
    bus.ensure_topics(all_topics())
    store = ArtifactStore(folder / "artifacts")
    telemetry = Telemetry("gateway")
    feed = Feed(RunLog(bus, store=store), telemetry=telemetry)
    submission = Submission(bus, store, ArtifactStore(folder / "sealed"), folder)
    ports = Ports(bus, feed, submission, store)
    if webhooks is not None:
        engine = open_engine(f"sqlite:///{folder / 'gateway.db'}")
        migrate(engine)
        options["webhooks"] = Webhooks(engine, feed=feed, history=history, telemetry=telemetry, options=webhooks)
    return Parts(
        build_app(ports, history=history, telemetry=telemetry, store=store, **options), bus, feed, ports, store
    )
