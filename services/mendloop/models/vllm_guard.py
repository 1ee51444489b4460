"""Runs a command until standard input closes, then ends it with all its children: a server must not outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

GRACE_S = 5.0


def guard(command: list[str]) -> int:
    """Run the command until it ends or standard input closes; the command's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the one who started us decides, by closing the pipe
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_when_orphaned, args=(process,), daemon=True).start()
    status = process.wait()
    # engine and workers of a server that was killed stay behind; they are in our process group
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    return status


def _end_when_orphaned(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held while the interpreter shuts down
        pass
    process.terminate()
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
