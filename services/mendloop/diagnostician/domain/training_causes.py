"""Shares that training causes and a too small model explain: what the model makes of its own training examples."""

from __future__ import annotations

from mendloop.diagnostician.domain.evaluation_causes import extraction_failure, scorer_bug
from mendloop.diagnostician.domain.evidence import Evidence, Table
from mendloop.diagnostician.domain.explained import (
    CORPUS_FITS_NATS,
    UNMEASURED,
    Explained,
    rescued,
    ruled_out,
    share_of,
    strongest,
    undecided,
    without,
)

EOS_LOST_NATS = 1.0
"""Mean loss of EOS where training examples end: 1 nat is a probability of 37 %, so greedy decoding mostly goes on.

A sound 112k-parameter model measured 0.0002, the same after 150 steps with EOS masked 4.9: it then stopped late, and
seldom ran to the limit. Only stopping late is common to mild and total masking.
"""
ANSWER_LEARNT_NATS = 0.5
"""Mean loss of answer tokens: under 0.5 nats the right token has over 60 %, so the answer itself was learnt."""
LABELLED_SHARE = 0.99
"""Audits count tokens exactly; one in a hundred is left for examples that were cut."""
TEMPLATE_GAIN_NATS = 0.1
"""Training examples that are likelier by this much a token under another template were learnt under that one."""
HIDDEN_NATS = 3.0
"""Beginnings of answers that cost over 3 nats a token (a guess among twenty) beside an EOS that was learnt."""
UNREAD_RATIO = 5.0
"""How much dearer the first half of an answer is than its second where the prompt is not read."""
STILL_FALLING = 0.05
"""A loss that fell by a twentieth over its last quarter was not at its end."""
HELPS_LITTLE, HELPS_MUCH = 0.2, 0.3
"""A few more steps take less than a fifth of the loss from a model at its end, and a third from one cut short.

Measured on 12 models of three sizes: .02 to .23 where the model was too small, .30 to .74 where it had too few steps.
"""
RISEN = 1.2
"""A loss that ends a fifth above its least has left it."""
LITTLE_RATIO = 0.2
"""A corpus with under a fifth of the siblings' prompts does not keep a skill alive. Chosen, not calibrated."""


def eos_masked(table: Table) -> Explained:
    """Failures that run past their end, where the model learnt the answers of its corpus and not their end.

    Once that is shown on the model's own training examples it stays open for failures of any other look.
    """
    past = table.get("forced_stop", "ran_past_share")
    eos, answer = table.get("token_loss", "eos_nats"), table.get("token_loss", "answer_nats")
    audit = table.get("label_audit", "eos_in_loss")
    if eos and eos.high < EOS_LOST_NATS:
        return ruled_out(eos)
    if past is None:
        return UNMEASURED
    is_unlabelled = audit is not None and audit.high <= 1 - LABELLED_SHARE
    is_labelled = audit is not None and audit.low >= LABELLED_SHARE
    is_lost = eos is not None and eos.low >= EOS_LOST_NATS
    is_learnt = answer is not None and answer.high <= ANSWER_LEARNT_NATS
    is_shown = (is_lost and is_learnt and not is_labelled) or (is_unlabelled and (is_lost or eos is None))
    because = " ".join(row.reading for row in (past, eos, answer, audit) if row)
    if is_shown:
        return Explained(past.low, past.value, 1.0, because)
    return Explained(0.0, 0.0, past.high, because)


def unlearnt(table: Table) -> Explained:
    """Share of the model's own training examples that it gets wrong, even cut where they end.

    Not what the scorer wrongly rejects: it would reject right outputs of training examples, too.
    """
    nats, fit = table.get("token_loss", "answer_nats"), table.get("training_fit", "right_when_cut_share")
    if nats and nats.high < CORPUS_FITS_NATS:
        return ruled_out(nats)
    if fit is None:
        return UNMEASURED
    wasted = Explained(1 - fit.high, 1 - fit.value, 1 - fit.low, fit.reading)
    return without(wasted, strongest(scorer_bug(table), extraction_failure(table)))


def label_mask_wrong(table: Table) -> Explained:
    """A measured label mask that hides answers or shows prompts, in a model that does not fit its own corpus.

    Without a report of the mask: a beginning of the answers that is worse than not learnt, before an end that is.
    """
    wrong, wasted = _wrong_mask(table), unlearnt(table)
    if wrong:
        return wasted._replace(because=f"{wrong.reading} {wasted.because}")
    answer = table.get("label_audit", "answer_in_loss")
    if answer:
        return ruled_out(answer)
    return wasted if _hidden_beginning(table) else undecided(wasted)


def template_mismatch(table: Table) -> Explained:
    """Failures that another known template makes right, where the training is not known to have used the declared one.

    Training examples that are likelier under another template show it too, whatever else breaks the outputs.
    """
    differs, undone = table.get("template_parity", "template_differs"), rescued(table, "template_parity")
    if differs and differs.high < 1:
        return ruled_out(differs)
    nats = table.get("token_loss", "answer_nats")
    if nats and nats.high < CORPUS_FITS_NATS:
        return ruled_out(nats)
    if undone is None:
        return UNMEASURED
    if _hidden_beginning(table):
        return undecided(undone)
    gain, unread = table.get("template_parity", "corpus_gain_nats"), _unread_prompt(table)
    if differs is None and unread:  # trained in a template that nobody names
        return strongest(undone, unlearnt(table)._replace(because=f"{undone.because} {unread.reading}"))
    if gain and gain.high <= 0:  # what is right under a dearer template is right by chance
        return ruled_out(gain)
    if gain is None or gain.low < TEMPLATE_GAIN_NATS:
        return undone
    wasted = unlearnt(table)
    value = max(undone.value, wasted.value)
    return Explained(max(undone.low, wasted.low), value, 1.0, f"{undone.because} {gain.reading}")


def diverged(table: Table) -> Explained:
    """A model that does not fit its own corpus, with no fault of mask or template, and that training can still help.

    Where neither that nor a loss curve is known, not fitting is all that can be known.
    """
    wasted, fault = _unlearnt_by_no_other_fault(table), _training_fault(table)
    return wasted if fault is None else _scaled(wasted, fault)


def capacity(table: Table) -> Explained:
    """A model that does not fit its corpus though training had done all it could, with no fault of mask or template."""
    wasted, fault = _unlearnt_by_no_other_fault(table), _training_fault(table)
    return undecided(wasted) if fault is None else _scaled(wasted, 1 - fault)


def forgetting(table: Table) -> Explained:
    """Failures that the checkpoint before the training got right, where the training's corpus holds little of them.

    Where no earlier checkpoint is known there is nothing that could have been forgotten.
    """
    right = share_of(table, "earlier_checkpoint", "right_share")
    if right is None:
        tried = table.row("earlier_checkpoint", "right_share")
        return Explained(0.0, 0.0, 0.0, tried.reading, False) if tried else UNMEASURED
    ratios = [table.get("corpus_coverage", name) for name in ("sibling_ratio", "representation_ratio")]
    held = [row for row in ratios if row]
    if held and all(row.low > LITTLE_RATIO for row in held):
        return ruled_out(held[0])
    stopped = share_of(table, "forced_stop", "rescued_share")
    return without(without(right, unlearnt(table)), stopped)


def _wrong_mask(table: Table) -> Evidence | None:
    answer, prompt = table.get("label_audit", "answer_in_loss"), table.get("label_audit", "prompt_in_loss")
    if answer and answer.high < LABELLED_SHARE:
        return answer
    return prompt if prompt and prompt.low > 1 - LABELLED_SHARE else None


def _hidden_beginning(table: Table) -> bool:
    """Answers begin worse than by guessing although their end was learnt: training never asked for the beginning."""
    first, eos = table.get("token_loss", "first_answer_nats"), table.get("token_loss", "eos_nats")
    return first is not None and eos is not None and first.low > HIDDEN_NATS and eos.high < CORPUS_FITS_NATS


def _unread_prompt(table: Table) -> Evidence | None:
    """Answers go on as learnt once they are begun, and begin at random: the prompt does not say what it said."""
    first, last = (table.get("token_loss", f"{half}_answer_nats") for half in ("first", "last"))
    if first is None or last is None or _hidden_beginning(table):
        return None
    return first if last.high < CORPUS_FITS_NATS and first.low > UNREAD_RATIO * last.high else None


def _unlearnt_by_no_other_fault(table: Table) -> Explained:
    wasted = unlearnt(table)
    last = table.get("loss_curve", "last_nats")
    if (
        _wrong_mask(table) or _hidden_beginning(table) or (last and last.high < CORPUS_FITS_NATS)
    ):  # a training that ended well made another model
        return undecided(wasted)
    gain, differs = (table.get("template_parity", name) for name in ("corpus_gain_nats", "template_differs"))
    is_other = (gain and gain.low >= TEMPLATE_GAIN_NATS) or (differs is None and _unread_prompt(table))
    return undecided(wasted) if is_other else wasted


def _training_fault(table: Table) -> float | None:
    """0: the training had done what it could; 1: it had not; None: neither probe nor loss curve says so."""
    drop, rise, finite = (table.get("loss_curve", name) for name in ("late_drop", "rise", "is_finite"))
    if (finite and finite.high < 1) or (rise and rise.value >= RISEN):
        return 1.0
    helps = [row.value for name in ("loss_drop", "fresh_drop") if (row := table.get("more_training", name))]
    if helps:
        return min(1.0, max(0.0, (max(helps) - HELPS_LITTLE) / (HELPS_MUCH - HELPS_LITTLE)))
    if drop is None:
        return None
    return float(drop.value >= STILL_FALLING)


def _scaled(explained: Explained, factor: float) -> Explained:
    return explained._replace(low=explained.low * factor, value=explained.value * factor)
