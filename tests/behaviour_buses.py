"""Opens the bus under test, in the test's process and in the processes that it starts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mendloop.bus.base import Bus
from mendloop.bus.local import LocalBus
from mendloop.bus.wiring import open_bus

SCRIPT = Path(__file__).parent / "behaviour" / "bus_member.py"


@dataclass(frozen=True, slots=True)
class BusFactory:
    """One log; each call opens it anew."""

    url: str
    options: dict[str, str]

    def __call__(self) -> Bus:
        """A bus object of its own on the same log."""
        if self.url.startswith("local:"):
            return LocalBus(self.url.removeprefix("local:"), partition_count=4, lease_s=float(self.options["lease_s"]))
        return open_bus(self.url, options=self.options)

    @contextmanager
    def member(self, *args: str) -> Iterator[Member]:
        """A group member in a process of its own, killed when the block ends."""
        command = [sys.executable, str(SCRIPT), self.url, json.dumps(self.options), *args]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        try:
            yield Member(process)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@dataclass(frozen=True, slots=True)
class Member:
    """A process that tells what it does, one line a step."""

    process: subprocess.Popen[str]

    def says(self) -> str:
        """The next line; empty where the process ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


def arguments(argv: Sequence[str]) -> tuple[BusFactory, list[str]]:
    """What member() passed, as its script finds it."""
    return BusFactory(argv[1], json.loads(argv[2])), list(argv[3:])
