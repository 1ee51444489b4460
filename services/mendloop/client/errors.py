"""What a call can fail with, drawn as a tree.

ClientError
├── Unreachable    no answer came (also after the tries that the call allows)
├── WaitTimeout    the run was not over in time; it goes on
└── ApiError       the gateway answered with a problem (RFC 9457)
    ├── BadRequest     400, 413, 415: cannot be read
    ├── Unauthorized   401: no token, or one that is not valid
    ├── Forbidden      403: the token may not do this
    ├── NotFound       404
    ├── Conflict       409: right, but not in the run's state
    ├── Invalid        422: faults name the fields
    ├── NotReady       429, 503: try again after retry_after_s
    └── ServerError    any other 5xx
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """A field that is wrong: its dotted name, what is wrong, and the value as text."""

    field: str
    message: str
    value: str = ""


class ClientError(Exception):
    """Base of all errors of the client."""


class Unreachable(ClientError):
    """The gateway did not answer."""


class WaitTimeout(ClientError):
    """A run was not over in time. It goes on; waiting again goes on too."""

    def __init__(self, run_id: str, state: str, *, timeout_s: float) -> None:
        super().__init__(f"run {run_id} is {state or 'not known'} after {timeout_s:g} s; it goes on, wait again")
        self.run_id, self.state = run_id, state


class ApiError(ClientError):
    """The gateway refused. detail is its sentence, faults are the wrong fields."""

    def __init__(
        self, status: int, detail: str, *, faults: tuple[Fault, ...] = (), retry_after_s: float | None = None
    ) -> None:
        named = "".join(f"; {fault.field}: {fault.message}" for fault in faults)
        super().__init__(f"{detail} (status {status}){named}")
        self.status, self.detail, self.faults, self.retry_after_s = status, detail, faults, retry_after_s


class BadRequest(ApiError):
    """The request cannot be read."""


class Unauthorized(ApiError):
    """The token is missing or not valid."""


class Forbidden(ApiError):
    """The token may not do this."""


class NotFound(ApiError):
    """There is no such thing."""


class Conflict(ApiError):
    """Not in the run's state."""


class Invalid(ApiError):
    """Fields are wrong."""


class NotReady(ApiError):
    """Too much at once, or not started yet."""


class ServerError(ApiError):
    """Something went wrong at the gateway."""


_KINDS: dict[int, type[ApiError]] = {
    400: BadRequest,
    413: BadRequest,
    415: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: NotReady,
    503: NotReady,
}


def error_of(status: int, *, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error of an answer with a status from 300 on; one that is no problem document shows its beginning."""
    kind = _KINDS.get(status, ServerError if status >= 500 else ApiError)
    waits = headers.get("retry-after", "")
    retry_after_s = float(waits) if waits.isascii() and waits.isdigit() else None
    try:
        document = json.loads(content)
        detail = str(document["detail"])
        faults = tuple(
            Fault(str(fault["field"]), str(fault["message"]), str(fault.get("value", "")))
            for fault in document.get("faults", ())
        )
    except (ValueError, KeyError, TypeError):
        detail, faults = content[:200].decode(errors="replace") or "no detail was given", ()
    return kind(status, detail, faults=faults, retry_after_s=retry_after_s)
