"""Why the gateway refuses a request: one small tree that REST and gRPC turn into their statuses.

Refusal
├── Malformed      cannot be read
├── Invalid        can be read and is wrong; faults name fields
├── UnknownRun     no event of such a run was read
├── UnknownWebhook there is no such webhook
├── Conflict       right, but not in the run's state
├── KeyReused      an idempotency key was used for another request
└── Busy           too much at once; try again
"""

from __future__ import annotations

from dataclasses import dataclass


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


class UnknownRun(Refusal):
    """There is no such run."""


class UnknownWebhook(Refusal):
    """There is no such webhook."""


class Conflict(Refusal):
    """The run is not in a state for this."""


class KeyReused(Refusal):
    """The idempotency key belongs to another request."""


class Busy(Refusal):
    """The gateway cannot take more now."""
