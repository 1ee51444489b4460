"""Is the slice in the training corpus? Counts distinct prompts and word bigrams; asks no model.

Repeats do not count: a prompt that stands a thousand times in the corpus is still one prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from mendloop.core.records import Axes, Outcome
from mendloop.core.stats import clopper_pearson
from mendloop.core.tasks import Conditions, matches
from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.evidence import Evidence, exact, measured, missing, share
from mendloop.diagnostician.domain.probes.corpus_terms import term_rows
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import Estimate, attributable_share, estimate

NAME = "corpus_coverage"
DISTINCT = "distinct_prompts"
RATIO = "sibling_ratio"
REPRESENTATION = "representation_ratio"
EXCESS = "excess_failure_share"
UNSEEN_FAILED = "unseen_bigram_failed"
UNSEEN_PASSING = "unseen_bigram_passing"

Bigram = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Siblings:
    """The axis on which the slice is rarest, its other values, and how many distinct prompts each has."""

    axis: str
    ratio: float
    typical: float
    covered: tuple[Conditions, ...]
    count: int


class CorpusCoverage:
    """Looks for the slice, its siblings and the failed prompts' bigrams in the training corpus."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Counts of the corpus; per sample the excess of failures over siblings and the unseen bigrams."""
        if not case.corpus:
            why = "There is no training corpus to search."
            return tuple(missing(NAME, row, reading=why) for row in (DISTINCT, RATIO, UNSEEN_FAILED))
        prompts = {" ".join(row.prompt.lower().split()): row.axes for row in case.corpus}
        seen = {bigram for prompt in prompts for bigram in bigrams(prompt)}
        if case.not_placed and not _has_axes(case):
            why = f"The slice cannot be looked for in the corpus: {case.not_placed}."
            abstained = [missing(NAME, row, reading=why) for row in (DISTINCT, RATIO, REPRESENTATION)]
            return (*abstained, *(row for sample in case.samples for row in _unseen(sample, seen)))
        siblings = _siblings(case, list(prompts.values()))
        rows = [*_counts(case, prompts, siblings)]
        for sample in case.samples:
            rows += [_excess(case, sample, siblings), *_unseen(sample, seen)]
        return (*rows, *term_rows(case, probe=NAME))


def bigrams(prompt: str) -> set[Bigram]:
    """Word bigrams of a prompt in lower case, with markers where it begins and ends."""
    return set(pairwise(("<s>", *prompt.lower().split(), "</s>")))


def _has_axes(case: Case) -> bool:
    """Whether each axis of the slice is on some example: then whoever stored the corpus could read it there."""
    return all(any(axis in row.axes for row in case.corpus) for axis, _ in case.conditions)


def _count(corpus: Iterable[Axes], conditions: Conditions) -> int:
    return sum(matches(axes, conditions) for axes in corpus)


def _siblings(case: Case, corpus: Sequence[Axes]) -> Siblings | None:
    """Siblings on the axis where the slice is rarest against their median; None where no axis has a covered one.

    Of equally rare axes the one with the best covered siblings says most.
    """
    own = _count(corpus, case.conditions)
    found = []
    for axis, value in case.conditions:
        rest = tuple(pair for pair in case.conditions if pair[0] != axis)
        variants = [((axis, other), *rest) for other in sorted(_values(case, corpus, axis) - {value})]
        counts = [_count(corpus, variant) for variant in variants]
        typical = median(counts) if counts else 0
        if typical:
            covered = tuple(v for v, count in zip(variants, counts, strict=True) if count >= typical / 2)
            found.append(Siblings(axis, own / typical, typical, covered, len(variants)))
    return min(found, key=lambda row: (row.ratio, -row.typical, row.axis), default=None)


def _values(case: Case, corpus: Iterable[Axes], axis: str) -> set[str]:
    measured_axes = (row.axes for sample in case.samples for row in sample.outcomes)
    return {value for axes in (*corpus, *measured_axes) for value in axes.get(axis, ())}


def _counts(case: Case, prompts: dict[str, Axes], siblings: Siblings | None) -> Iterator[Evidence]:
    total = len(prompts)
    own = _count(prompts.values(), case.conditions)
    yield exact(
        NAME,
        DISTINCT,
        own,
        total,
        reading=f"{own} of {total} distinct prompts of the corpus lie in the slice ({len(case.corpus)} examples).",
    )
    if siblings is None:
        yield missing(NAME, RATIO, reading="No other value on the slice's axes occurs in the corpus.")
    else:
        yield exact(
            NAME,
            RATIO,
            siblings.ratio,
            siblings.count,
            reading=f"The slice has {own} distinct {'prompt' if own == 1 else 'prompts'}; the {siblings.count} other"
            f" values of {siblings.axis} have a median of {siblings.typical:g}.",
        )
    yield _representation(case, own, total)


def _representation(case: Case, own: int, total: int) -> Evidence:
    """Share of the slice in the corpus over its share in the evaluation; the latter has sampling error."""
    outcomes = [row for sample in case.samples for row in sample.outcomes]
    hits = sum(matches(row.axes, case.conditions) for row in outcomes)
    if not hits:
        return missing(NAME, REPRESENTATION, reading="No evaluation item lies in the slice.")
    low, high = clopper_pearson(hits, len(outcomes))
    corpus_share = own / total
    value = Estimate(corpus_share * len(outcomes) / hits, corpus_share / high, corpus_share / low)
    reading = f"The slice is {corpus_share:.2%} of the corpus's prompts and {hits / len(outcomes):.2%} of the items."
    return measured(NAME, REPRESENTATION, value, len(outcomes), reading=reading)


def _excess(case: Case, sample: Sample, siblings: Siblings | None) -> Evidence:
    """Share of the slice's failures beyond what its covered siblings fail."""
    inside = [row for row in sample.outcomes if matches(row.axes, case.conditions)]
    variants = siblings.covered if siblings else ()
    beside = [
        row
        for row in sample.outcomes
        if not matches(row.axes, case.conditions) and any(matches(row.axes, variant) for variant in variants)
    ]
    if not inside or not beside:
        return missing(NAME, EXCESS, sample=sample.name, reading="No item lies in a covered sibling of the slice.")
    value = attributable_share(_failure_rate(inside), _failure_rate(beside))
    reading = (
        f"{_failed(inside)} of {len(inside)} items of the slice fail, "
        f"{_failed(beside)} of {len(beside)} of its siblings that the corpus covers."
    )
    return measured(NAME, EXCESS, value, len(inside) + len(beside), sample=sample.name, reading=reading)


def _failed(outcomes: Sequence[Outcome]) -> int:
    return sum(not row.is_correct for row in outcomes)


def _failure_rate(outcomes: Sequence[Outcome]) -> Estimate:
    failed = _failed(outcomes)
    return estimate(failed / len(outcomes), clopper_pearson(failed, len(outcomes)))


def _unseen(sample: Sample, seen: set[Bigram]) -> Iterator[Evidence]:
    for measurement, rows, words in (
        (UNSEEN_FAILED, sample.failed, "failed"),
        (UNSEEN_PASSING, sample.passing, "passing"),
    ):
        hits, examples = _unseen_in(rows, seen)
        reading = f"{hits} of {len(rows)} {words} prompts hold a word bigram that the corpus never shows{examples}."
        yield share(NAME, measurement, hits, len(rows), sample=sample.name, reading=reading)


def _unseen_in(rows: Sequence[Observation], seen: set[Bigram]) -> tuple[int, str]:
    """How many prompts hold an unseen bigram, and up to three of the commonest."""
    tally: dict[Bigram, int] = {}
    hits = 0
    for row in rows:
        new = bigrams(row.item.prompt) - seen
        hits += bool(new)
        for bigram in new:
            tally[bigram] = tally.get(bigram, 0) + 1
    common = sorted(tally, key=lambda bigram: (-tally[bigram], bigram))[:3]
    return hits, f" ({', '.join(repr(' '.join(bigram)) for bigram in common)})" if common else ""
