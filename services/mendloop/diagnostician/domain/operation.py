"""The operation at which a slice's outputs go wrong first: what step-level data is made for. Pure."""

from __future__ import annotations

from collections import Counter

from mendloop.diagnostician.domain.case import Case, Sample

LEAST_SHARE = 0.5


def failing_operation(case: Case) -> str:
    """The one operation that is first wrong in at least half of the failed outputs, in both samples; else empty."""
    found = {_most_common(sample) for sample in case.samples}
    return found.pop() if len(found) == 1 else ""


def _most_common(sample: Sample) -> str:
    tally = Counter(row.outcome.wrong_operation for row in sample.failed if row.outcome.wrong_operation)
    ((operation, count),) = tally.most_common(1) or [("", 0)]
    return operation if count >= LEAST_SHARE * len(sample.failed) else ""
