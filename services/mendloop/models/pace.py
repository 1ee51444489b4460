"""How many requests a server bears at once: one more after each round that went well, half after a refusal.

Additive increase, multiplicative decrease (Chiu & Jain 1989); before the first refusal each round doubles, as TCP's
slow start does (RFC 5681). Knows threads; knows neither HTTP nor models.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mendloop.models.vllm_client import Busy, Gone

A = TypeVar("A")


@dataclass(slots=True)
class Pace:
    """The limit of requests under way; it outlives one batch, so that the next starts where this one ended."""

    limit: float = 32.0
    most: int = 128
    slow_s: float = 60.0
    """An answer that takes longer counts as a refusal: the server queues more than it computes."""
    refusal_count: int = 0
    _under_way: int = 0
    _cut_at: float = 0.0
    _free: threading.Condition = field(default_factory=threading.Condition)

    def begin(self) -> float:
        """Wait for a place; the time at which it was had."""
        with self._free:
            while self._under_way >= max(1, int(self.limit)):
                self._free.wait()
            self._under_way += 1
            return time.monotonic()

    def end(self, began: float, *, is_refused: bool = False) -> None:
        """Give the place back, and say how it went."""
        now = time.monotonic()
        with self._free:
            self._under_way -= 1
            if is_refused or now - began > self.slow_s:
                self.refusal_count += 1
                if began >= self._cut_at:  # requests of before the last cut say nothing about what is now
                    self.limit, self._cut_at = max(1.0, self.limit / 2), now
            else:
                step = 1 / self.limit if self.refusal_count else 1.0
                self.limit = min(float(self.most), self.limit + step)
            self._free.notify_all()


@dataclass(frozen=True, slots=True)
class Asked(Generic[A]):
    """Answers by the index of their question, and why the others have none."""

    answers: dict[int, A]
    fault: Gone | Busy | None


def ask_all(
    questions: Sequence[int],
    ask: Callable[[int], A],
    *,
    pace: Pace,
    tries: int = 8,
    backoff_s: float = 0.5,
) -> Asked[A]:
    """Ask every question, as many at once as the pace allows; Busy is asked again, after a random wait that grows.

    Once the server is gone no further question is asked. What `ask` raises else, is raised.
    """
    answers: dict[int, A] = {}
    faults: list[Gone | Busy] = []
    failed = threading.Event()

    def one(question: int) -> None:
        for attempt in range(tries):
            if failed.is_set():
                return
            began = pace.begin()
            try:
                answer = ask(question)
            except Busy as busy:
                pace.end(began, is_refused=True)
                if attempt + 1 == tries:
                    faults.append(busy)
                    return
                # full jitter: waits that are alike would come back as one crowd
                failed.wait(random.uniform(0, backoff_s * 2**attempt))
                continue
            except Gone as gone:
                pace.end(began)
                faults.append(gone)
                failed.set()
                return
            except BaseException:
                pace.end(began)
                failed.set()
                raise
            pace.end(began)
            answers[question] = answer
            return

    with ThreadPoolExecutor(max_workers=max(1, min(pace.most, len(questions)))) as pool:
        tasks = [pool.submit(one, question) for question in questions]
        for task in tasks:
            task.result()
    return Asked(answers, faults[0] if faults else None)
