"""Shares that evaluation causes explain: failures that become right when the evaluation is repaired, not the model."""

from __future__ import annotations

from mendloop.diagnostician.domain.evidence import Table
from mendloop.diagnostician.domain.explained import (
    UNMEASURED,
    Explained,
    at_most,
    excess_over,
    rescued,
    share_of,
    undecided,
)


def truncation(table: Table) -> Explained:
    """Failures that a longer budget makes right; at most those that ran to the limit without a right beginning."""
    longer = rescued(table, "longer_budget")
    if longer:
        return longer
    unfinished = table.get("forced_stop", "unfinished_share")
    return at_most(unfinished) if unfinished else UNMEASURED


def scorer_bug(table: Table) -> Explained:
    """Failures that the second scorer accepts although the suite's had extracted something."""
    return _rescored(table, silent=False)


def extraction_failure(table: Table) -> Explained:
    """Failures that the second scorer accepts where the suite's had found no answer at all."""
    return _rescored(table, silent=True)


def _rescored(table: Table, *, silent: bool) -> Explained:
    accepted, extracted = table.get("rescoring", "rescued_share"), table.get("rescoring", "not_extracted_share")
    if accepted is None:
        return UNMEASURED
    net = excess_over(table, "rescoring", "rescued_share", "accepted_mismatched_share")._replace(high=accepted.high)
    is_mostly_silent = extracted is not None and 2 * extracted.value > accepted.value
    return net if is_mostly_silent == silent else undecided(net)


def prompt_format(table: Table) -> Explained:
    """Failures that become right when the evaluation's own affixes or spelling of the prompt are undone."""
    return rescued(table, "reformat") or UNMEASURED


def benchmark_label_error(table: Table) -> Explained:
    """Failures whose target the verifier refutes."""
    return share_of(table, "target_check", "wrong_target_share") or UNMEASURED
