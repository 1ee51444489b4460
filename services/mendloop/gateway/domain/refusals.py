"""Why the gateway refuses a request: one small tree that REST and gRPC turn into their statuses.

Refusal
├── Malformed      cannot be read
├── Invalid        can be read and is wrong; faults name fields
├── UnknownRun     no event of such a run was read
├── Unknown        there is no such thing, or not of this run
├── Conflict       right, but not in the run's state
├── KeyReused      an idempotency key was used for another request
├── NotSignedIn    no credential, or one that is worth nothing
├── NotAllowed     the credential does not reach this far
├── TooMany        more requests than the credential or address may make; try again later
├── Busy           too much at once, or something is away; try again
├── Unreadable     an artifact that the answer needs is missing or damaged
└── TooLarge       an artifact is too large to be shown here
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_KEY_LENGTH = 255
"""Of an idempotency key."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A field that is wrong: its dotted name, what is wrong, and the value as text (cut to 200 characters)."""

    field: str
    message: str
    value: str = ""


class Refusal(Exception):
    """Base of all refusals; the message is for the person who asked."""


class Malformed(Refusal):
    """The request cannot be read."""


class Invalid(Refusal):
    """The request is wrong."""

    def __init__(self, message: str, *, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


def check_key(key: str) -> None:
    """Raises Malformed for what is no idempotency key; none at all is fine."""
    if len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise Malformed(f"the idempotency key must have at most {MAX_KEY_LENGTH} printable characters")


class UnknownRun(Refusal):
    """There is no such run, or none for who asks: both are the same answer."""

    @classmethod
    def named(cls, run_id: str) -> UnknownRun:
        """The refusal of a run id."""
        return cls(f"there is no run {run_id[:100]!r}")


class Conflict(Refusal):
    """The run is not in a state for this."""


class KeyReused(Refusal):
    """The idempotency key belongs to another request."""


class Busy(Refusal):
    """The gateway cannot take more now."""


class Unknown(Refusal):
    """There is no such thing, or not of this run."""


class Unreadable(Refusal):
    """An artifact is missing or damaged."""


class TooLarge(Refusal):
    """An artifact is too large to be shown."""


class NotSignedIn(Refusal):
    """Nobody is known to ask."""


class NotAllowed(Refusal):
    """Who asks may not do this."""


class TooMany(Refusal):
    """Too many requests."""

    def __init__(self, message: str, *, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s
