"""Releases: which there were, their code from git, and what their chart renders. Knows no process."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "deploy" / "releases.json"
PARTS = ("services", "charts", "protos", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Release:
    """The code of one release: a checkout, or a copy of its parts."""

    tree: Path

    @property
    def version(self) -> str:
        """As its package says."""
        return str(tomllib.loads((self.tree / "pyproject.toml").read_text())["project"]["version"])

    @property
    def chart(self) -> Path:
        """Its Helm chart."""
        return self.tree / "charts" / "mendloop"

    @property
    def services(self) -> Path:
        """Its import root."""
        return self.tree / "services"


THIS = Release(ROOT)


def order(version: str) -> tuple[int, ...]:
    """What versions are sorted by."""
    return tuple(map(int, version.split(".")))


def made() -> dict[str, str]:
    """Commits of the releases that were made, by version, oldest first."""
    table: dict[str, str] = json.loads(TABLE.read_text())
    return dict(sorted(table.items(), key=lambda row: order(row[0])))


def previous(folder: Path) -> Release:
    """The release before this code, unpacked into a folder. Skips where git or its commit is not there."""
    version, commit = list(made().items())[-1]
    command = ["git", "-C", str(ROOT), "archive", commit, *PARTS]
    try:
        archived = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("git is missing: the code of the release before comes from the history")
    if archived.returncode != 0:
        words = archived.stderr.decode().strip()
        pytest.skip(f"release {version} ({commit[:12]}) is not in this history, a shallow clone perhaps: {words}")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return Release(folder)
