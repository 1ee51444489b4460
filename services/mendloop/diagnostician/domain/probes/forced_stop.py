"""Would the failed outputs be right had the model stopped? Reads stored outputs; asks no model."""

from __future__ import annotations

from collections.abc import Iterator

from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.cutting import is_right_when_cut
from mendloop.diagnostician.domain.evidence import Evidence, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "forced_stop"
STOPPED_BY_LENGTH = "stopped_by_length"
RESCUED = "rescued_share"
UNFINISHED = "unfinished_share"
RAN_PAST = "ran_past_share"


class ForcedStop:
    """Cuts each failed output where its target ends, and counts which ran to the token limit."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: shares that ran to the limit, are right when cut, ran on and stay wrong, ran past their end."""
        return tuple(row for sample in case.samples for row in _rows(case, sample))


def _rows(case: Case, sample: Sample) -> Iterator[Evidence]:
    n = len(sample.failed)
    ran_on = [row.outcome.stop_reason == "length" for row in sample.failed]
    rescued = [is_right_when_cut(case.task, row.item, row.outcome.output) for row in sample.failed]
    unfinished = sum(long and not right for long, right in zip(ran_on, rescued, strict=True))
    past = sum(long or right for long, right in zip(ran_on, rescued, strict=True))
    limit = case.suite.max_new_tokens
    yield share(
        NAME,
        STOPPED_BY_LENGTH,
        sum(ran_on),
        n,
        sample=sample.name,
        reading=f"{sum(ran_on)} of {n} failed outputs ran to the limit of {limit} tokens.",
    )
    yield share(
        NAME,
        RESCUED,
        sum(rescued),
        n,
        sample=sample.name,
        reading=f"{sum(rescued)} of {n} failed outputs are right when cut where the target ends.",
    )
    yield share(
        NAME,
        UNFINISHED,
        unfinished,
        n,
        sample=sample.name,
        reading=f"{unfinished} of {n} failed outputs ran to the limit and do not begin with a right answer.",
    )
    yield share(
        NAME,
        RAN_PAST,
        past,
        n,
        sample=sample.name,
        reading=f"{past} of {n} failed outputs ran to the limit or go on after a right beginning.",
    )
