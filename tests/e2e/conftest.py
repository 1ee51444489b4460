"""One undisturbed demo on the embedded bus, shared by every test that compares with it or asks what was scraped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from demo_run import Demo, Scraped, run_demo
from monitoring import PACKAGES, PROGRAMS, monitoring
from system_packages import has_programs

SCRAPE_S = 2.0


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo on the embedded bus, scraped where this machine has Prometheus or can install it."""
    out = tmp_path_factory.mktemp("demo")
    with ExitStack() as stack:
        watched = None
        if has_programs(PROGRAMS, packages=PACKAGES):
            ports = out / "state" / "ports"
            folder = tmp_path_factory.mktemp("prometheus")
            watched = stack.enter_context(
                monitoring(folder, port_files=lambda: ports.glob("*-[0-9]"), scrape_s=SCRAPE_S)
            )
        started_at = time.time()
        found = run_demo(out, bus="local")
        yield replace(found, scraped=Scraped(watched, started_at, time.time())) if watched else found
