"""What a cause explains: an interval of a share of failures, and how measurements combine into one. Names no cause.

A cause that was not measured explains 0..1: it is neither shown nor ruled out.
"""

from __future__ import annotations

from typing import NamedTuple

from mendloop.diagnostician.domain.evidence import Evidence, Table
from mendloop.diagnostician.domain.uncertainty import Estimate, difference

CORPUS_FITS_NATS = 0.1
"""Under 0.1 nats a token (90 %) a greedy output rarely leaves the target; above it, generation has to decide."""


NOTICED = 0.05
"""A rival whose lower end is below this may be chance (2 of 24 has .01, 4 of 24 .05) and takes nothing away."""


class Explained(NamedTuple):
    """The share of failures that a cause explains, between its ends, and the measurement behind it."""

    low: float
    value: float
    high: float
    because: str
    is_measured: bool = True


UNMEASURED = Explained(0.0, 0.0, 1.0, "it was not measured.", False)


def shown(row: Evidence) -> Explained:
    """A measured share as it is."""
    return Explained(row.low, row.value, row.high, row.reading)


def at_most(row: Evidence) -> Explained:
    """A measured share that bounds the cause from above and shows nothing."""
    return Explained(0.0, 0.0, row.high, row.reading)


def ruled_out(row: Evidence) -> Explained:
    """A measurement that excludes the cause."""
    return Explained(0.0, 0.0, 0.0, row.reading)


def of_estimate(estimate: Estimate, because: str) -> Explained:
    """A derived share, clipped to 0..1."""
    low, value, high = (min(1.0, max(0.0, end)) for end in (estimate.low, estimate.value, estimate.high))
    return Explained(low, value, high, because)


def undecided(explained: Explained) -> Explained:
    """The same upper end with nothing shown."""
    return explained._replace(low=0.0, value=0.0)


def without(explained: Explained, other: Explained | None) -> Explained:
    """What is left where another cause explains its share first; unchanged where the other's may be chance."""
    if other is None or not explained.is_measured or other.low < NOTICED:
        return explained
    rest = difference(Estimate(explained.value, *_ends(explained)), Estimate(other.value, *_ends(other)))
    high = min(explained.high, max(0.0, 1 - other.low))
    value = min(high, max(0.0, rest.value))
    low = min(value, max(0.0, rest.low))
    return explained._replace(low=low, value=value, high=high, because=f"{explained.because} {other.because}")


def right_with_steps(table: Table) -> Explained:
    """Failures that the same checkpoint answers right once it is asked for the steps, beyond chance.

    As many right answers as become wrong by asking so would have become right by guessing anew.
    """
    return excess_over(table, "first_steps", "elicited_rescued_share", "elicited_broken_share")


def bounded(explained: Explained, other: Explained) -> Explained:
    """A cause that cannot explain the failures which another measurement explains: at most the rest is left for it."""
    if not other.is_measured or other.low < NOTICED or explained.high <= 1 - other.low:
        return explained
    low, value, high = (min(end, 1 - other.low) for end in explained[:3])
    return explained._replace(low=low, value=value, high=high, because=f"{explained.because} {other.because}")


def strongest(*explained: Explained) -> Explained:
    """The one that explains most at its lower end, then by its value; the first of equals."""
    return max(explained, key=lambda one: (one.low, one.value))


def share_of(table: Table, probe: str, measurement: str) -> Explained | None:
    """A measured share, or None."""
    row = table.get(probe, measurement)
    return shown(row) if row else None


def rescued(table: Table, probe: str, measurement: str = "rescued_share") -> Explained | None:
    """A share that a counterfactual makes right, less what becomes right by asking again; None where not measured."""
    row = share_of(table, probe, measurement)
    return without(row, share_of(table, "pass_at_k", "mean_right_share")) if row else None


def excess_over(table: Table, probe: str, measurement: str, control: str) -> Explained:
    """A share beyond that of its control (all of it where the control was not measured)."""
    row, other = table.get(probe, measurement), table.get(probe, control)
    if row is None:
        return UNMEASURED
    if other is None:
        return shown(row)
    return of_estimate(difference(row.estimate, other.estimate), f"{row.reading} {other.reading}")


def _ends(explained: Explained) -> tuple[float, float]:
    return explained.low, explained.high
