"""Bells of the embedded bus: named pipes beside its file that wake who waits for a commit, in whatever process.

A bell only shortens a wait: who waits looks again after its timeout anyway, and where a folder takes no pipes nobody
rings.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
from pathlib import Path

_MOST_RINGS = 4096


class Bell:
    """One waiter's own pipe. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._path, unheard = folder / name, folder / f".{name}"
        self._pipe = -1
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            os.mkfifo(unheard)  # whoever may write the bus may ring
            pipe = os.open(unheard, os.O_RDWR | os.O_NONBLOCK)  # with a writing end of our own it never ends
            os.rename(unheard, self._path)  # who rings takes pipes away that nobody has open
            self._pipe = pipe

    @property
    def can_ring(self) -> bool:
        """Whether others find this bell."""
        return self._pipe >= 0

    def wait(self, timeout_s: float) -> None:
        """Return when somebody rang since the last wait, or after the timeout."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if poll.poll(timeout_s * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, _MOST_RINGS)

    def close(self) -> None:
        """Take the bell away."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            self._path.unlink(missing_ok=True)


def ring(folder: Path) -> None:
    """Wake all who wait; takes away what a killed process left."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith("."):
            continue
        path = folder / name
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads it
                path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(OSError):  # full: rung often enough
            os.write(pipe, b"!")
        os.close(pipe)
