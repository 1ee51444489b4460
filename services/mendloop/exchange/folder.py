"""Writes an export as one folder, whole or not at all. Knows files; knows no format.

A folder is replaced only where it holds an earlier export: --force must not eat somebody's home.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from mendloop.core.errors import Permanent, Retryable

MARKER = "lineage.json"
"""A file that every export has."""


def write_folder(target: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Put the files (relative path to content) under the target, which shows them all or keeps what it had.

    Raises Permanent where something is in the way, Retryable where the disk is full or not writable.
    """
    assert MARKER in files, f"an export needs {MARKER}"
    target = Path(os.path.abspath(target))
    _refuse_what_is_in_the_way(target, force=force)
    temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(6)}")
    try:
        _write_all(temporary, files)
        _swap(temporary, target)
    except OSError as error:
        raise Retryable(f"cannot write {target}: {error.strerror or error}; nothing was changed there") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_what_is_in_the_way(target: Path, *, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise Permanent(f"{target} is no folder; choose another name")
    if not any(target.iterdir()):
        return
    if not force:
        raise Permanent(f"{target} is not empty; choose another folder, or give --force to replace an earlier export")
    if not (target / MARKER).is_file():
        raise Permanent(f"{target} holds no earlier export ({MARKER} is missing), so --force does not replace it")


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _swap(new: Path, target: Path) -> None:
    """Rename works over an empty folder; a full one steps aside first and comes back where the rename fails."""
    if not (target.is_dir() and any(target.iterdir())):
        os.replace(new, target)
        return
    old = target.with_name(f".{target.name}.old-{secrets.token_hex(6)}")
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)
