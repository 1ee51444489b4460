"""What a webhook is, how far it has come, and what an answer of its receiver changes. Knows neither web nor SQL.

Events of one hook go out one after another, in the order of the log: an event that is tried again holds back the next.
Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Format = Literal["event", "slack"]
Result = Literal["delivered", "retry", "refused", "gone"]
RETRIED_STATUSES = frozenset({408, 425, 429})
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 3600.0
REFUSED_LIMIT = 20
MAX_DETAIL_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a hook gets, as people write it; an empty part matches everything."""

    runs: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret (whsec_ and base64); expires_at is None for the one that stays."""

    text: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a hook has come.

    cursor is the place behind the last event that is done with; failing_since and attempt are of the event at work.
    refused_count counts events in a row whose receiver answered with a status that is not tried again.
    """

    cursor: str
    not_before: str = ""
    is_enabled: bool = True
    disabled_reason: str = ""
    attempt: int = 0
    failing_since: float | None = None
    next_attempt_at: float = 0.0
    refused_count: int = 0
    delivered_count: int = 0
    failed_count: int = 0
    last_delivered_at: float | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """A subscription of a receiver. version grows with each change that a person makes."""

    hook_id: str
    url: str
    description: str
    format: Format
    wanted: Wanted
    secrets: tuple[Secret, ...]
    created_at: float
    updated_at: float
    progress: Progress
    version: int = 1
    request_digest: str = ""
    """Of the request that created it with an idempotency key; empty where it had none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt met: the status (0 where none came), its duration, what went wrong, and Retry-After."""

    status: int
    seconds: float
    detail: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the delivery log: one try of one event."""

    hook_id: str
    event_id: str
    event_type: str
    run_id: str
    at: float
    number: int
    result: Result
    answer: Answer
    is_test: bool = False


def judge(answer: Answer) -> Result:
    """What an answer means: 2xx is delivered, 410 ends the hook, silence and passing faults are tried again."""
    if 200 <= answer.status < 300:
        return "delivered"
    if answer.status == 410:
        return "gone"
    if answer.status == 0 or answer.status >= 500 or answer.status in RETRIED_STATUSES:
        return "retry"
    return "refused"


def wait_s(attempt: int, *, spread: float, retry_after_s: float | None = None) -> float:
    """Seconds until the next try: 1, 2, 4, ... to an hour, times 0.5 to 1.5 by spread (0 to 1), not before Retry-After.

    Spread keeps hooks whose receivers fell together from coming back together.
    """
    if attempt < 1 or not 0 <= spread <= 1:
        raise ValueError(f"attempt is {attempt} and spread {spread}; they must be at least 1, and 0 to 1")
    planned = min(LONGEST_WAIT_S, FIRST_WAIT_S * float(1 << min(attempt - 1, 20))) * (0.5 + spread)
    return max(planned, retry_after_s or 0.0)


def after(
    progress: Progress, answer: Answer, *, cursor: str, now: float, spread: float, retry_for_s: float
) -> Progress:
    """The progress after an answer about the event that ends at cursor."""
    result = judge(answer)
    if result == "delivered":
        return replace(
            _done(progress, cursor), refused_count=0, delivered_count=progress.delivered_count + 1,
            last_delivered_at=now, last_error="",
        )  # fmt: skip
    failed = replace(
        progress, failed_count=progress.failed_count + 1, last_error=answer.detail or f"status {answer.status}"
    )
    if result == "gone":  # as after a failure, the event stays the next one: the address may come back
        return replace(failed, is_enabled=False, disabled_reason="the receiver answered 410 (gone)")
    if result == "refused":
        return _after_refusal(failed, answer, cursor=cursor)
    return _after_failure(failed, answer, now=now, spread=spread, retry_for_s=retry_for_s)


def _done(progress: Progress, cursor: str) -> Progress:
    return replace(progress, cursor=cursor, attempt=0, failing_since=None, next_attempt_at=0.0)


def _after_refusal(failed: Progress, answer: Answer, *, cursor: str) -> Progress:
    """The event is given up; a receiver that refuses all of them is not asked forever."""
    done = replace(_done(failed, cursor), refused_count=failed.refused_count + 1)
    if done.refused_count < REFUSED_LIMIT:
        return done
    reason = f"{done.refused_count} events in a row were refused, the last with status {answer.status}"
    return replace(done, is_enabled=False, disabled_reason=reason)


def _after_failure(failed: Progress, answer: Answer, *, now: float, spread: float, retry_for_s: float) -> Progress:
    """The event stays the next one, also where the hook is disabled: enabled again, it goes on there."""
    attempt, since = failed.attempt + 1, now if failed.failing_since is None else failed.failing_since
    tried = replace(failed, attempt=attempt, failing_since=since)
    if now - since >= retry_for_s:
        reason = f"one event failed {attempt} times in {(now - since) / 3600:.1f} h: {failed.last_error}"
        return replace(tried, is_enabled=False, disabled_reason=reason)
    wait = wait_s(attempt, spread=spread, retry_after_s=answer.retry_after_s)
    # The last try is at the end of the time, not beyond it, whatever the receiver asks for.
    return replace(tried, next_attempt_at=min(now + wait, since + retry_for_s))


def enabled_again(progress: Progress) -> Progress:
    """The progress of a hook that a person enables: it goes on where it stopped, at once."""
    return replace(
        progress, is_enabled=True, disabled_reason="", attempt=0, failing_since=None, next_attempt_at=0.0,
        refused_count=0, last_error="",
    )  # fmt: skip


def disabled(progress: Progress, *, reason: str) -> Progress:
    """The progress of a hook that a person disables."""
    return replace(progress, is_enabled=False, disabled_reason=reason)


def rewound(progress: Progress, *, cursor: str, not_before: str = "") -> Progress:
    """The progress that begins again at a cursor; not_before (ISO 8601) leaves out events that are older."""
    return replace(
        progress, cursor=cursor, not_before=not_before, attempt=0, failing_since=None, next_attempt_at=0.0,
    )  # fmt: skip
