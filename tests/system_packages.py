"""Debian's packages that tests use: where one is missing, root installs it once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

_INSTALL_S = 280


def has_programs(programs: Sequence[str], *, packages: Sequence[str]) -> bool:
    """Whether the programs are on the PATH, after an attempt to install their packages where they are not."""
    if _are_there(programs):
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], capture_output=True, timeout=_INSTALL_S, check=False)
    return _are_there(programs)


def _are_there(programs: Sequence[str]) -> bool:
    return all(shutil.which(program) for program in programs)
