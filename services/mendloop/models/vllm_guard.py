"""Runs a command until standard input closes, then ends it with all its children: a server must not outlive us."""

from __future__ import annotations

import os
import signal
import sys

from mendloop.core.guard import run_until_orphaned


def guard(command: list[str]) -> int:
    """Run the command until it ends or standard input closes; the command's exit status."""
    status = run_until_orphaned(command)
    # engine and workers of a server that was killed stay behind; they are in our process group
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    return status


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
