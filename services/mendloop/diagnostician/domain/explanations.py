"""For each cause: how large a share of a sample's failures it explains, at least and at most. The rule, cause by cause.

A cause that was not measured explains 0..1: it is neither shown nor ruled out. Knows evidence; names no model or task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Evidence, Table
from mendloop.diagnostician.domain.uncertainty import difference

EOS_LOST_NATS = 1.0
"""Mean loss of EOS where training examples end: 1 nat is a probability of 37 %, so greedy decoding mostly goes on.

A sound 112k-parameter model measured 0.0002, the same after 150 steps with EOS masked 4.9: it then stopped late, and
seldom ran to the limit. Only stopping late is common to mild and total masking.
"""
ANSWER_LEARNT_NATS = 0.5
"""Mean loss of answer tokens: under 0.5 nats the right token has over 60 %, so the answer itself was learnt."""
CORPUS_FITS_NATS = 0.1
"""Under 0.1 nats a token (90 %) a greedy output rarely leaves the target; above it, generation has to decide."""
LABELLED_SHARE = 0.99
"""Audits count tokens exactly; one in a hundred is left for examples that were cut."""
MISSING_RATIO = 0.01
"""Under one prompt for a hundred of the slice's siblings, what there is are isolated cases (a bare word, a typo)."""
SKEW_RATIO = 0.2
"""Under a fifth of the siblings' prompts, and of the slice's own share of the suite. Chosen, not calibrated."""


class Explained(NamedTuple):
    """Ends of the share of failures that a cause explains, and the measurement behind it."""

    low: float
    high: float
    because: str


UNMEASURED = Explained(0.0, 1.0, "it was not measured.")


def _of(row: Evidence) -> Explained:
    return Explained(row.low, row.high, row.reading)


def _no(row: Evidence) -> Explained:
    return Explained(0.0, 0.0, row.reading)


def truncation(table: Table) -> Explained:
    """Failures that a longer budget makes right; at most those that ran to the limit without a right beginning."""
    longer = table.get("longer_budget", "rescued_share")
    if longer:
        return _of(longer)
    unfinished = table.get("forced_stop", "unfinished_share")
    return Explained(0.0, unfinished.high, unfinished.reading) if unfinished else UNMEASURED


def eos_masked(table: Table) -> Explained:
    """Failures that run past their end, where the model learnt the answers of its corpus and not their end.

    Once that is shown on the model's own training examples it stays open for failures of any other look.
    """
    past = table.get("forced_stop", "ran_past_share")
    eos, answer = table.get("token_loss", "eos_nats"), table.get("token_loss", "answer_nats")
    audit = table.get("label_audit", "eos_in_loss")
    if eos and eos.high < EOS_LOST_NATS:
        return _no(eos)
    if past is None:
        return UNMEASURED
    is_unlabelled = audit is not None and audit.high <= 1 - LABELLED_SHARE
    is_labelled = audit is not None and audit.low >= LABELLED_SHARE
    is_lost = eos is not None and eos.low >= EOS_LOST_NATS
    is_learnt = answer is not None and answer.high <= ANSWER_LEARNT_NATS
    is_shown = (is_lost and is_learnt and not is_labelled) or (is_unlabelled and (is_lost or eos is None))
    because = " ".join(row.reading for row in (past, eos, answer, audit) if row)
    return Explained(past.low, 1.0, because) if is_shown else Explained(0.0, past.high, because)


def _unlearnt(table: Table) -> Explained:
    """Share of the model's own training examples that it gets wrong, even cut where they end."""
    nats, fit = table.get("token_loss", "answer_nats"), table.get("training_fit", "right_when_cut_share")
    if fit:
        return Explained(1 - fit.high, 1 - fit.low, fit.reading)
    if nats and nats.high < CORPUS_FITS_NATS:
        return _no(nats)
    return UNMEASURED


def label_mask_wrong(table: Table) -> Explained:
    """A measured label mask that hides answers or shows prompts, in a model that does not fit its own corpus."""
    wrong = _wrong_mask(table)
    unlearnt = _unlearnt(table)
    if wrong:
        return Explained(unlearnt.low, unlearnt.high, f"{wrong.reading} {unlearnt.because}")
    answer = table.get("label_audit", "answer_in_loss")
    return _no(answer) if answer else unlearnt._replace(low=0.0)


def _wrong_mask(table: Table) -> Evidence | None:
    answer, prompt = table.get("label_audit", "answer_in_loss"), table.get("label_audit", "prompt_in_loss")
    if answer and answer.high < LABELLED_SHARE:
        return answer
    return prompt if prompt and prompt.low > 1 - LABELLED_SHARE else None


def diverged(table: Table) -> Explained:
    """A model that does not fit its own corpus, with no fault of the label mask to explain that."""
    unlearnt = _unlearnt(table)
    return unlearnt._replace(low=0.0) if _wrong_mask(table) else unlearnt


def scorer_bug(table: Table) -> Explained:
    """Failures that the second scorer accepts although the suite's had extracted something."""
    return _rescored(table, silent=False)


def extraction_failure(table: Table) -> Explained:
    """Failures that the second scorer accepts where the suite's had found no answer at all."""
    return _rescored(table, silent=True)


def _rescored(table: Table, *, silent: bool) -> Explained:
    rescued, control = table.get("rescoring", "rescued_share"), table.get("rescoring", "accepted_mismatched_share")
    extracted = table.get("rescoring", "not_extracted_share")
    if rescued is None:
        return UNMEASURED
    net = difference(rescued.estimate, control.estimate) if control else rescued.estimate
    is_mostly_silent = extracted is not None and 2 * extracted.value > rescued.value
    because = f"{rescued.reading} {control.reading}" if control else rescued.reading
    return Explained(max(0.0, net.low) if is_mostly_silent == silent else 0.0, rescued.high, because)


def data_missing(table: Table) -> Explained:
    """Failed prompts with bigrams that the corpus lacks, beyond passing ones; or a slice that it does not hold."""
    absent = _excess_if(table, above=-1.0, below=MISSING_RATIO)
    return max(_unseen(table), absent, key=lambda explained: explained.low)


def _unseen(table: Table) -> Explained:
    """At least the smaller of two shares: failures with unseen bigrams, and failures beyond those of siblings.

    A slice that fails no more than its siblings lacks no data of its own: what is missing lies in another slice whose
    items it shares.
    """
    failed = table.get("corpus_coverage", "unseen_bigram_failed")
    passing = table.get("corpus_coverage", "unseen_bigram_passing")
    excess = table.get("corpus_coverage", "excess_failure_share")
    if failed is None or passing is None:
        return UNMEASURED
    net = difference(failed.estimate, passing.estimate)
    low = min(net.low, excess.low) if excess else net.low
    because = " ".join(row.reading for row in (failed, passing, excess) if row)
    return Explained(max(0.0, low), min(1.0, max(0.0, net.high)), because)


def data_skew(table: Table) -> Explained:
    """Failures beyond those of siblings, in a slice that the corpus holds too rarely against them and the suite.

    Those that unseen bigrams explain are missing, not rare.
    """
    representation = table.get("corpus_coverage", "representation_ratio")
    if representation is None or representation.high > SKEW_RATIO:
        return Explained(0.0, 1.0, representation.reading if representation else UNMEASURED.because)
    rare = _excess_if(table, above=MISSING_RATIO, below=SKEW_RATIO)
    unseen = table.get("corpus_coverage", "unseen_bigram_failed")
    return rare._replace(low=max(0.0, rare.low - unseen.high)) if unseen else rare


def _excess_if(table: Table, *, above: float, below: float) -> Explained:
    ratio, excess = (table.get("corpus_coverage", name) for name in ("sibling_ratio", "excess_failure_share"))
    if ratio is None or excess is None:
        return UNMEASURED
    if not above < ratio.value <= below:
        return _no(ratio)
    return Explained(excess.low, excess.high, f"{ratio.reading} {excess.reading}")


RULES: dict[Cause, Callable[[Table], Explained]] = {
    Cause.SCORER_BUG: scorer_bug,
    Cause.EXTRACTION_FAILURE: extraction_failure,
    Cause.TRUNCATION: truncation,
    Cause.EOS_MASKED: eos_masked,
    Cause.LABEL_MASK_WRONG: label_mask_wrong,
    Cause.DIVERGED_OR_UNDERTRAINED: diverged,
    Cause.DATA_MISSING: data_missing,
    Cause.DATA_SKEW: data_skew,
}
"""The causes that are decided today, in the order that breaks ties: what is cheapest to repair first."""
