"""What the page computes, tested where it runs: its own tests under node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted((Path(__file__).parent / "page").glob("*.test.mjs"))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is missing: apt-get install -y nodejs")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_logic_of_the_page(path: Path) -> None:
    done = subprocess.run(["node", "--test", str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
