"""How a call is carried out: tries, waits and errors, as a generator that somebody else's I/O drives.

It yields Send and Sleep; a driver sends back the answer, or throws Unreachable. So blocking and asynchronous clients
are the same up to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from mendloop.client import calls
from mendloop.client.calls import Call, Request
from mendloop.client.errors import NotReady, ServerError, Unreachable, WaitTimeout, error_of
from mendloop.client.results import Run, RunSummary

T = TypeVar("T")
TRIES = 4
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send this and give the answer back."""

    request: Request


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Talk = Generator[Send | Sleep, Answer | None, T]


def wait_after(failures: int) -> float:
    """Seconds before the next try: 0.5, 1, 2, ... to 30."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * float(1 << min(failures - 1, 20)))


def asked(call: Call[T]) -> Talk[T]:
    """The result of a call. Silence, 429 and 503 are tried again: every call may be sent twice."""
    for tried in count(1):
        try:
            answer = yield Send(call.request)
            assert answer is not None, "the driver answers a Send"
            if answer.status < 300:
                return call.read(answer.content)
            raise error_of(answer.status, headers=answer.headers, content=answer.content)
        except (Unreachable, NotReady) as error:
            if tried >= TRIES:
                raise
            asks = getattr(error, "retry_after_s", None)
            pause = wait_after(tried) if asks is None else min(asks, LONGEST_WAIT_S)
        yield Sleep(pause)
    raise AssertionError("the loop ends by itself")


def waited(
    run_id: str,
    *,
    timeout_s: float | None,
    poll_s: float,
    on_progress: Callable[[Run], object] | None,
    clock: Callable[[], float],
) -> Talk[Run]:
    """The run when it is over. on_progress gets the run each time it changed. Raises WaitTimeout.

    A gateway that is away for a while (a restart) is waited for, as long as there is time.
    """
    deadline = None if timeout_s is None else clock() + timeout_s
    known: Run | None = None
    while True:
        try:
            run = yield from asked(calls.get_run(run_id))
        except (Unreachable, NotReady, ServerError):
            if deadline is None or clock() >= deadline:
                raise
        else:
            if on_progress is not None and run != known:
                on_progress(run)
            known = run
            if run.is_finished:
                return run
        if deadline is not None and clock() >= deadline:
            raise WaitTimeout(run_id, known.state if known else "", timeout_s=timeout_s or 0.0)
        yield Sleep(poll_s if deadline is None else max(0.0, min(poll_s, deadline - clock())))


def answered(
    run_id: str, *, plan_id: str, approved: bool, reason: str, by: str, review: bool | None
) -> Talk[RunSummary]:
    """Approve or refuse; without a plan id, the one that waits. Raises ValueError where none does."""
    if not plan_id or review is None:
        run = yield from asked(calls.get_run(run_id))
        waiting = run.waiting
        if waiting is None and not plan_id:
            raise ValueError(f"run {run_id} waits for no approval; it is {run.state}")
        plan_id = plan_id or (waiting.waiting_plan_id if waiting else "")
        review = waiting.waits_for_review if review is None and waiting else bool(review)
    call = calls.answer(run_id, plan_id=plan_id, approved=approved, reason=reason, by=by, review=review)
    return (yield from asked(call))
