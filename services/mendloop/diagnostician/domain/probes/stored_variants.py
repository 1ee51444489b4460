"""What became of the failed items where one thing was changed and somebody measured again. Reads stored outcomes.

Each variant is a counterfactual that another probe would make with the model at hand; it fills that probe's row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mendloop.core.records import Outcome
from mendloop.core.tasks import Conditions, matches
from mendloop.diagnostician.domain.case import Case, Sample, first_draws
from mendloop.diagnostician.domain.evidence import Evidence, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "stored_variants"


class Variant(NamedTuple):
    """The rows that a variant fills: of failed items that became right, and of right ones that became wrong."""

    probe: str
    rescued: str
    broken: str
    words: str


VARIANTS: Mapping[str, Variant] = {
    "steps": Variant("first_steps", "elicited_rescued_share", "elicited_broken_share", "asked to reason first"),
    "earlier": Variant("earlier_checkpoint", "right_share", "passing_broken_share", "on an earlier checkpoint"),
    "longer": Variant("longer_budget", "rescued_share", "broken_share", "with a longer budget"),
    "format": Variant("reformat", "rescued_share", "passing_broken_share", "in another format"),
    "wording": Variant("paraphrase", "rescued_share", "passing_broken_share", "in other words"),
    "sampled": Variant("pass_at_k", "any_right_share", "none_right_passing", "among other samples of the model"),
    "reference": Variant("open_book", "reference_rescued_share", "reference_broken_share", "with a reference"),
}
"""What can have been changed, by the name that `mend diagnose --variant` takes."""


class StoredVariants:
    """Counts, per variant, which failed items became right and, as a control, which right ones became wrong.

    All items of the slice count, not a sample of its failures: stored outcomes cost nothing. Chance alone rescues half
    of the failures where answers are yes or no, and breaks as many right ones.
    """

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Rows of each variant and sample; none where nothing was measured again."""
        return tuple(
            row
            for kind, outcomes in case.variants.items()
            for sample in case.samples
            for row in _rows(VARIANTS[kind], first_draws(outcomes), sample, case.conditions)
        )


def _rows(variant: Variant, again: Mapping[str, Outcome], sample: Sample, conditions: Conditions) -> Iterator[Evidence]:
    inside = [row for row in sample.outcomes if matches(row.axes, conditions)]
    for measurement, was_right, before, after in (
        (variant.rescued, False, "failed", "right"),
        (variant.broken, True, "right", "wrong"),
    ):
        rows = [row for row in inside if row.is_correct == was_right]
        paired = _paired(rows, again)
        hits = sum(outcome.is_correct != was_right for outcome in paired)
        reading = f"{hits} of {len(paired)} {before} items are {after} {variant.words} (stored outputs)."
        if not paired:
            reading = f"None of the {len(rows)} {before} items was measured again {variant.words}."
        yield share(variant.probe, measurement, hits, len(paired), sample=sample.name, reading=reading)


def _paired(rows: Sequence[Outcome], again: Mapping[str, Outcome]) -> list[Outcome]:
    """The second outcomes of the items that have one with the same target: a changed item is another item."""
    found = [(row, again.get(row.item_id)) for row in rows]
    return [other for row, other in found if other is not None and other.target == row.target]
