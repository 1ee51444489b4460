"""One undisturbed demo on the embedded bus, shared by every test that compares with it."""

from __future__ import annotations

import pytest
from demo_run import Demo, run_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo on the embedded bus."""
    return run_demo(tmp_path_factory.mktemp("demo"), bus="local")
