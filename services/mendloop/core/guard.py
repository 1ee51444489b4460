"""Keeps a child server from outliving the process that started it: a pipe on standard input tells of its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

GRACE_S = 5.0


def run_until_orphaned(command: list[str]) -> int:
    """Run the command until it ends or standard input closes; the command's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the one who started us decides, by closing the pipe
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_when_orphaned, args=(process,), daemon=True).start()
    return process.wait()


def _end_when_orphaned(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held while the interpreter shuts down
        pass
    process.terminate()
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
