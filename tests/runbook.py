"""Commands as they stand in the guide and the runbooks: what a test runs is what a reader copies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
LIMIT_S = 600.0


def blocks(page: str, *, heading: str = "") -> list[str]:
    """The fenced blocks of a page of docs/, or of its section of that heading, without what is output."""
    text = (DOCS / page).read_text()
    if heading:
        found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert found, f"{page} has no section {heading!r}"
        text = found[1]
    return [block.replace("\n   ", "\n").strip() for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.M | re.S)]


def command(page: str, text: str, **given: str) -> str:
    """A command that must stand in a page, in a code span or a fenced block, with its capital words filled in."""
    spans = re.findall(r"`([^`\n]+)`", (DOCS / page).read_text())
    lines = [line.strip() for block in blocks(page) for line in block.splitlines()]
    assert text in spans or text in lines, f"docs/{page} has no command {text!r}"
    for word, value in given.items():
        assert word in text, f"{text!r} has no {word}"
        text = re.sub(rf"\b{word}\b", lambda _, value=value: value, text)
    return text


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment, with `mend` and `python` of this interpreter on the PATH."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", **(settings or {})}


def run(text: str, *, folder: Path, settings: Mapping[str, str] | None = None, fails: bool = False) -> str:
    """What a shell prints for the command in a folder. Fails where the command does, or does not where it should."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
