"""A real gateway process over the page's world, and a real Chromium before it: for tests of the web page."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from system_packages import has_programs
from waiting import wait_until

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics
from mendloop.core.events import Envelope

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SLOW_MS = 60_000


@dataclass
class Site:
    """A gateway process of a folder on a port of its own, and the bus under it."""

    folder: Path
    port: int
    bus: LocalBus
    store: ArtifactStore
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def entrance(self) -> str:
        """The address that the gateway prints at start: with its token, where it asks for one."""
        token = self.folder / ".mendloop" / "gateway-token"
        return f"{self.url}/#token={token.read_text().strip()}" if token.exists() else self.url

    def publish(self, events: Sequence[Envelope]) -> None:
        """What a service would publish."""
        self.bus.publish(list(events))

    def start(self) -> None:
        """Start the process and wait until it has read the log."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MENDLOOP_")}
        settings = {
            "MENDLOOP_BUS": f"local:{self.folder / 'bus.db'}",
            "MENDLOOP_ARTIFACTS_URI": f"file://{self.folder / 'artifacts'}",
            "MENDLOOP_SEALED_ARTIFACTS_URI": f"file://{self.folder / 'sealed'}",
            "MENDLOOP_PORT": str(self.port),
            "PYTHONPATH": str(ROOT / "services"),
        }
        log = (self.folder / "gateway.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mendloop.gateway"], env=kept | settings, cwd=self.folder, stderr=log, stdout=log
        )
        wait_until(self._is_ready, deadline_s=60, every_s=0.1)

    def stop(self) -> None:
        """End the process as an operator does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "gateway.log").read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def site(folder: Path, events: Sequence[Envelope] = (), *, store: ArtifactStore | None = None) -> Iterator[Site]:
    """A started gateway over these events."""
    bus = LocalBus(folder / "bus.db")
    bus.ensure_topics(all_topics())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Site(folder, port, bus, store or ArtifactStore(folder / "artifacts"))
    made.publish(events)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        bus.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or a skip that says what to install."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    if not has_programs([CHROMIUM], packages=[CHROMIUM]):
        pytest.skip("Chromium is missing: apt-get update && apt-get install -y chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def tab(browser: Any, place: Site, *, phone: bool = False, dark: bool = False) -> Iterator[Any]:
    """A page of its own that is signed in; at its end nothing may have broken in it."""
    size = {"width": 375, "height": 812} if phone else {"width": 1280, "height": 900}
    context = browser.new_context(
        viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce", base_url=place.url
    )
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(place.entrance)
    page.wait_for_selector("main h1")
    yield page
    context.close()
    assert broken == []
