"""Runs a command until standard input closes, then ends it: a broker must not outlive the process that started it."""

from __future__ import annotations

import sys

from mendloop.core.guard import run_until_orphaned

if __name__ == "__main__":
    sys.exit(run_until_orphaned(sys.argv[1:]))
