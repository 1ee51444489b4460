"""The token of the person at this machine: a file that only they can read, made at the first start and kept."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from mendloop.core.errors import InvalidRecipe
from mendloop.gateway.domain.keys import LOCAL_ID, SECRET_BYTES, split_token, token_of


def local_token(path: Path) -> str:
    """The token in a file; made where there is none. Raises InvalidRecipe where others may read the file, or where it
    holds something else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another start was first
        if not path.exists():
            _write(path, token_of(LOCAL_ID, secrets.token_hex(SECRET_BYTES)))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InvalidRecipe(f"{path} may be read by others (mode {mode:o}): delete it, so that a new token is made")
    token = path.read_text().strip()
    if split_token(token) is None:
        raise InvalidRecipe(f"{path} holds no token: delete it, so that a new one is made")
    return token


def _write(path: Path, token: str) -> None:
    """All or nothing, and never over a file that is there: a link to a finished file is made, or FileExistsError."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        os.link(partial, path)
    finally:
        partial.unlink()
