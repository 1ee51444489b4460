"""Where commands print. Knows terminals; knows no command."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPED_COLUMNS = 200
"""No terminal has a width for a file or a pipe; rich would take 80 and cut the cells of tables."""


def output() -> Console:
    """Standard output: as wide as the terminal or `COLUMNS`, else wide enough for a table."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_COLUMNS
    return Console(width=wide)
