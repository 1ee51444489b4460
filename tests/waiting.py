"""Waiting for a condition with a deadline: tests never sleep for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, deadline_s: float = 20.0, every_s: float = 0.02) -> T:
    """The condition's first true answer. Fails with its last answer at the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {deadline_s} s; the last answer was {answer!r}"
        time.sleep(every_s)
