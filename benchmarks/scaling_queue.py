"""A queue simulation of services on accelerators: tasks wait, workers start, load, work, idle and go.

Knows arrivals, queues and policies of scaling; knows no service of Mendloop. Times are seconds.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

POLL_S = 15.0
"""KEDA's pollingInterval in the chart."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a pool of workers scales. threshold 0: always `most` workers (a static size)."""

    most: int
    threshold: int = 0
    fewest: int = 0
    startup_s: float = 0.0
    """From the decision to a worker that takes work: image, process, model."""
    cooldown_s: float = 300.0
    switch_s: float = 0.0
    """What a worker of several kinds of work needs to load the other kind's model."""
    gpus: int = 0
    """Accelerators of one worker."""

    def wanted(self, lag: int) -> int:
        """Workers for a lag, which holds the tasks at work too: ceil(lag / threshold) within the bounds."""
        if not self.threshold:
            return self.most
        return min(self.most, max(self.fewest, math.ceil(lag / self.threshold)))


@dataclass(slots=True)
class Task:
    """One event to handle."""

    kind: str
    service_s: float
    arrived_at: float
    then: Callable[[float], None]


@dataclass(slots=True)
class _Worker:
    started_at: float
    kind: str = ""
    idle_since: float = 0.0


@dataclass(slots=True)
class Pool:
    """Workers that take from one queue, oldest first."""

    policy: Policy
    waits_s: list[float] = field(default_factory=list)
    alive_s: float = 0.0
    busy_s: float = 0.0
    peak: int = 0
    _queue: deque[Task] = field(default_factory=deque)
    _idle: list[_Worker] = field(default_factory=list)
    _all: list[_Worker] = field(default_factory=list)
    _at_work: int = 0

    @property
    def lag(self) -> int:
        """Tasks that are not done: waiting and at work, as a consumer group's lag counts them."""
        return len(self._queue) + self._at_work


class Simulation:
    """Events in time order over pools that are named by the kinds of work they take."""

    def __init__(self, pools: dict[str, Pool]) -> None:
        self._pools = pools
        self._unique = list({id(pool): pool for pool in pools.values()}.values())
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._open = 0

    def at(self, time_s: float, action: Callable[[float], None]) -> None:
        """Do something at a time."""
        self._open += 1
        heapq.heappush(self._events, (time_s, next(self._order), action))

    def submit(self, now: float, kind: str, service_s: float, then: Callable[[float], None]) -> None:
        """A task for the pool of its kind."""
        pool = self._pools[kind]
        pool._queue.append(Task(kind, service_s, now, then))
        self._take(pool, now)

    def run(self, *, until_s: float) -> None:
        """Run to the end of all work, at least until a time, so that idle workers are paid for as long."""
        for pool in self._unique:
            self._scale(pool, 0.0, is_first=True)
        now, next_poll = 0.0, POLL_S
        while self._events or next_poll <= until_s:
            if self._events and self._events[0][0] <= next_poll:
                now, _, action = heapq.heappop(self._events)
                action(now)
            else:
                now, next_poll = next_poll, next_poll + POLL_S
                for pool in self._unique:
                    self._scale(pool, now)
        for pool in self._unique:
            pool.alive_s += sum(max(now, until_s) - worker.started_at for worker in pool._all)

    def _scale(self, pool: Pool, now: float, *, is_first: bool = False) -> None:
        wanted = pool.policy.wanted(pool.lag)
        for _ in range(wanted - len(pool._all)):
            worker = _Worker(now)
            pool._all.append(worker)
            if is_first and not pool.policy.threshold:
                self._free(pool, worker, now)  # a static size is warm before the first task
                continue
            self.at(now + pool.policy.startup_s, lambda t, w=worker: self._free(pool, w, t))  # type: ignore[misc]
        for worker in [w for w in pool._idle if now - w.idle_since >= pool.policy.cooldown_s]:
            if len(pool._all) <= wanted:
                break
            pool._idle.remove(worker)
            pool._all.remove(worker)
            pool.alive_s += now - worker.started_at
        pool.peak = max(pool.peak, len(pool._all))

    def _free(self, pool: Pool, worker: _Worker, now: float) -> None:
        worker.idle_since = now
        pool._idle.append(worker)
        self._take(pool, now)

    def _take(self, pool: Pool, now: float) -> None:
        while pool._queue and pool._idle:
            task = pool._queue.popleft()
            fitting = [worker for worker in pool._idle if worker.kind == task.kind]
            worker = fitting[0] if fitting else pool._idle[0]
            pool._idle.remove(worker)
            loading_s = pool.policy.switch_s if worker.kind not in ("", task.kind) else 0.0
            worker.kind = task.kind
            pool.waits_s.append(now + loading_s - task.arrived_at)
            pool.busy_s += task.service_s
            pool._at_work += 1
            self.at(now + loading_s + task.service_s, lambda t, w=worker, k=task: self._done(pool, w, k, t))  # type: ignore[misc]

    def _done(self, pool: Pool, worker: _Worker, task: Task, now: float) -> None:
        pool._at_work -= 1
        self._free(pool, worker, now)
        task.then(now)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share lies (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
