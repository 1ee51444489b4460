"""Owns the resume points of a job on disk: written whole or not at all, verified by hash, at most two kept.

The Hugging Face Trainer writes its checkpoint-N in place, so a kill leaves a half one that it would load. Here it
writes to a staging folder that is renamed when a manifest with every file's SHA-256 is in it. Nothing is synced: a
point that a power cut tore fails its hashes, and the one before is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from mendloop.core.errors import Interrupted

log = logging.getLogger(__name__)
KEPT_COUNT = 2
LOCK_POLL_S = 0.2
_MANIFEST = "mendloop.json"
_STAGING = ".staging-"
_PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A verified state after a number of steps; progress is what its writer noted, as JSON values."""

    path: Path
    step: int
    progress: Mapping[str, Any]


def save_point(directory: Path, *, step: int, progress: Mapping[str, Any], write: Callable[[Path], Path]) -> Path:
    """Make a resume point. `write` gets an empty folder and returns the folder under it that holds the files."""
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(dir=directory, prefix=_STAGING))
    try:
        written = write(staging)
        files = {str(p.relative_to(written)): _sha256(p) for p in sorted(written.rglob("*")) if p.is_file()}
        body = json.dumps({"step": step, "files": files, "progress": progress}, sort_keys=True)
        manifest = {"body": body, "sha256": hashlib.sha256(body.encode()).hexdigest()}
        (written / _MANIFEST).write_text(json.dumps(manifest))
        target = directory / f"{_PREFIX}{step:09d}"
        shutil.rmtree(target, ignore_errors=True)
        written.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in _points(directory)[:-KEPT_COUNT]:
        shutil.rmtree(old)
    return target


def newest_point(directory: Path) -> ResumePoint | None:
    """The newest resume point whose bytes are all as written; damaged ones and leftovers of a kill are deleted."""
    for leftover in directory.glob(f"{_STAGING}*"):
        shutil.rmtree(leftover)
    for path in reversed(_points(directory)):
        point = _verified(path)
        if point is not None:
            return point
        log.warning("damaged resume point deleted; the one before is used", extra={"path": str(path)})
        shutil.rmtree(path)
    return None


@contextmanager
def job_lock(directory: Path, *, is_stopping: Callable[[], bool]) -> Iterator[None]:
    """Hold a job on this machine; the kernel frees it when the holder dies, by kill -9 too.

    Waits while another process holds it (one that lost its partition and does not know yet). Raises Interrupted where
    the service stops meanwhile.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if is_stopping():
                    raise Interrupted(f"stopped while another process trains {directory.name}") from None
                time.sleep(LOCK_POLL_S)
        yield


def forget_points(directory: Path) -> None:
    """Delete all resume points of a job, and its lock. Call it when the result is kept elsewhere."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.with_suffix(".lock").unlink(missing_ok=True)


def _points(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{_PREFIX}*"))


def _verified(path: Path) -> ResumePoint | None:
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        if hashlib.sha256(manifest["body"].encode()).hexdigest() != manifest["sha256"]:
            return None
        body = json.loads(manifest["body"])
        if any(_sha256(path / name) != sha256 for name, sha256 in body["files"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # whatever is wrong with it, it is no resume point
    return ResumePoint(path, body["step"], body["progress"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
