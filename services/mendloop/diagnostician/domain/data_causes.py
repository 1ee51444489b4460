"""Shares that data causes explain: what the corpus lacks, holds too rarely, or holds wrong. Each after its rivals."""

from __future__ import annotations

from mendloop.diagnostician.domain.evaluation_causes import prompt_format, truncation
from mendloop.diagnostician.domain.evidence import Table
from mendloop.diagnostician.domain.explained import (
    NOTICED,
    UNMEASURED,
    Explained,
    excess_over,
    of_estimate,
    rescued,
    right_with_steps,
    ruled_out,
    share_of,
    shown,
    strongest,
    undecided,
    without,
)
from mendloop.diagnostician.domain.training_causes import unlearnt
from mendloop.diagnostician.domain.uncertainty import Estimate, attributable_share, difference

MISSING_RATIO = 0.005
"""Under one prompt for two hundred of the slice's siblings, what there is are isolated cases (a bare word, a typo)."""
SKEW_RATIO = 0.2
"""Under a fifth of the siblings' prompts, and of the slice's own share of the suite. Chosen, not calibrated."""
HARMFUL_GAPS = 0.3
"""From three examples without steps in ten on, they explain failures in full; below it in proportion."""
HARMFUL_NOISE = 0.1
"""From one wrong label in ten on, wrong labels explain failures in full; below it in proportion."""


def uncovered(table: Table) -> Explained:
    """Failed prompts with bigrams that the corpus lacks, beyond passing ones; or a slice that it does not hold."""
    absent = _excess_if(table, above=-1.0, below=MISSING_RATIO)
    return max(_unseen(table), absent, key=lambda explained: explained.low)


def data_missing(table: Table) -> Explained:
    """What is uncovered, less prompts whose words are unknown, that other words or another form make right, that were
    right once, or whose like is right where it leaked. A slice that the corpus holds a little of is rare instead."""
    found = uncovered(table)
    if found.is_measured and _is_rare(table):
        return undecided(found)
    return without(found, _rival(table, knows_terms=False))


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
    low, value = (min(net.low, excess.low), min(net.value, excess.value)) if excess else (net.low, net.value)
    because = " ".join(row.reading for row in (failed, passing, excess) if row)
    return of_estimate(Estimate(value, low, net.high), because)


def rare(table: Table) -> Explained:
    """Failures beyond those of siblings, in a slice that the corpus holds too rarely against them and the suite.

    Those that unseen bigrams explain are missing, not rare.
    """
    representation = table.get("corpus_coverage", "representation_ratio")
    if representation is None:
        return UNMEASURED
    if representation.high > SKEW_RATIO:
        return ruled_out(representation)
    excess = _excess_if(table, above=MISSING_RATIO, below=SKEW_RATIO)
    unseen = table.get("corpus_coverage", "unseen_bigram_failed")
    if unseen is None:
        return excess
    return excess._replace(low=max(0.0, excess.low - unseen.high), value=max(0.0, excess.value - unseen.value))


def data_skew(table: Table) -> Explained:
    """Failures beyond those of siblings in a slice that is rare, less what the rivals of missing data explain."""
    found = rare(table)
    if found.is_measured and _is_rare(table):
        found = _excess_if(table, above=MISSING_RATIO, below=SKEW_RATIO)
    return without(found, _rival(table, knows_terms=False))


def _is_rare(table: Table) -> bool:
    """Whether the corpus holds a few examples of the slice against its siblings and against the suite."""
    ratio, representation = (table.get("corpus_coverage", f"{name}_ratio") for name in ("sibling", "representation"))
    if ratio is None or representation is None:
        return False
    return MISSING_RATIO < ratio.value <= SKEW_RATIO and representation.high <= SKEW_RATIO


def _excess_if(table: Table, *, above: float, below: float) -> Explained:
    ratio, excess = (table.get("corpus_coverage", name) for name in ("sibling_ratio", "excess_failure_share"))
    if ratio is None or excess is None:
        return UNMEASURED
    if not above < ratio.value <= below:
        return ruled_out(ratio)
    return shown(excess)._replace(because=f"{ratio.reading} {excess.reading}")


def _rival(table: Table, *, knows_terms: bool) -> Explained | None:
    """The strongest measured reason why a gap of the corpus is not what these prompts fail for."""
    found = [
        rescued(table, "paraphrase"),
        rescued(table, "reformat"),
        share_of(table, "earlier_checkpoint", "right_share"),
        contamination(table),
        share_of(table, "target_check", "wrong_target_share"),
        None if knows_terms else _unknown(table),
    ]
    return max((one for one in found if one and one.is_measured), key=lambda one: one.value, default=None)


def knowledge_gap(table: Table) -> Explained:
    """Failures with a term, or an answer to it, that no training example holds, beyond passing ones."""
    return without(_unknown(table), _rival(table, knows_terms=True))


def _unknown(table: Table) -> Explained:
    """New words; or answers seen less often beside the prompt's rarest word than where the model passes.

    The latter only in a slice whose form the corpus holds: where it does not, no answer of it can have been seen.
    """
    terms = excess_over(table, "corpus_coverage", "unseen_term_failed", "unseen_term_passing")
    failed, passing = (table.get("corpus_coverage", f"answer_seen_{name}") for name in ("failed", "passing"))
    ratio = table.get("corpus_coverage", "sibling_ratio")
    if failed is None or passing is None or (ratio and ratio.value <= SKEW_RATIO):
        return terms
    answers = of_estimate(difference(passing.estimate, failed.estimate), f"{failed.reading} {passing.reading}")
    return strongest(terms, answers) if terms.is_measured else answers


def reasoning_gap(table: Table) -> Explained:
    """Failures that become right once all steps but the last are given or asked for, for no other reason to fail.

    Training examples that answer without the steps show it too: what was never shown step by step is not chained.
    """
    given = rescued(table, "first_steps") or right_with_steps(table)
    if not given.is_measured:
        return UNMEASURED
    lacking = strongest(data_missing(table), data_skew(table), data_corrupted(table), knowledge_gap(table))
    reasons = (lacking, phrasing_mismatch(table), contamination(table), truncation(table), prompt_format(table))
    rest = without(given, strongest(*reasons))
    bare = excess_over(table, "step_coverage", "stepless_share", "rest_stepless_share")
    if not bare.is_measured:
        return without(rest, unlearnt(table))
    if bare.low < NOTICED:  # the corpus shows the steps
        return undecided(rest)
    low, value, high = (min(a, 1.0, b / HARMFUL_GAPS) for a, b in zip(rest[:3], bare[:3], strict=True))
    return Explained(low, value, high, f"{bare.because} {rest.because}")


def data_corrupted(table: Table) -> Explained:
    """Wrong labels of the slice's training examples beyond those of the rest, as far as there are enough to learn.

    Where no program can tell, labels that the model disputes in the slice more than outside it bound the cause.
    """
    wrong, rest = (table.get("label_noise", f"{name}wrong_label_share") for name in ("", "rest_"))
    held = table.get("corpus_coverage", "distinct_prompts")
    if wrong is None and held and held.value == 0:
        return ruled_out(held)
    if wrong is None:
        disputed = excess_over(table, "label_noise", "disagreement_share", "rest_disagreement_share")
        return disputed._replace(low=0.0, value=0.0) if disputed.is_measured else UNMEASURED
    base = rest.estimate if rest else Estimate(0.0, 0.0, 0.0)
    excess = attributable_share(wrong.estimate, base)
    scales = (min(1.0, end / HARMFUL_NOISE) for end in (wrong.value, wrong.low, wrong.high))
    noise = Estimate(*(share * scale for share, scale in zip(excess, scales, strict=True)))
    return of_estimate(noise, " ".join(row.reading for row in (wrong, rest) if row))


def phrasing_mismatch(table: Table) -> Explained:
    """Failures that a usual rewording makes right, as far as the corpus lacks their own wording."""
    found = rescued(table, "paraphrase")
    if found is None:
        return UNMEASURED
    new = [share_of(table, "corpus_coverage", f"unseen_{what}_failed") for what in ("term", "bigram")]
    measured = [one for one in new if one]
    if not measured:
        return found
    most = max(measured, key=lambda one: one.value)
    low, value, high = (min(a, b) for a, b in zip(found[:3], most[:3], strict=True))
    return Explained(low, value, high, f"{found.because} {most.because}")


def contamination(table: Table) -> Explained:
    """How much better the slice's leaked items do than the others: what the score owes to them."""
    gap, leaked = table.get("leakage", "fresh_gap"), table.get("leakage", "leaked_failed")
    if gap is None:  # nothing leaked, or everything did and fails all the same
        return ruled_out(leaked) if leaked else UNMEASURED
    return of_estimate(gap.estimate, " ".join(row.reading for row in (gap, leaked) if row))
