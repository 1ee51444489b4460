"""Is the right answer among a few random draws? Tells a skill that greedy decoding misses from one that is not there.

Few possible answers make some draw right by chance: compare the mean with one over their number.
"""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.diagnostician.adapters.probes.counterfactual import both, cannot, wrong_ids
from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.cutting import is_right_in_any_form
from mendloop.diagnostician.domain.evidence import Evidence, measured, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import bootstrap_ratio
from mendloop.models.asking import scored_text
from mendloop.models.generation import Sampling, SamplingModel

NAME = "pass_at_k"
ANY = "any_right_share"
MEAN = "mean_right_share"
TEMPERATURE = 0.8
MOST_ITEMS = 16
"""Failed items of a sample that are drawn for: with 8 draws each they cost what 128 greedy outputs do."""


class PassAtK:
    """Draws k outputs of each failed item. Draws of an item whose output is right but for its form do not count."""

    name = NAME
    cost_class = CostClass.GENERATED

    def __init__(self, *, k: int = 8) -> None:
        self._k = k

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failed items with a right draw, and the mean share of right draws."""
        if not isinstance(case.model, SamplingModel):
            return cannot(case, NAME, (ANY, MEAN), "There is no model that draws outputs at random.")
        items = [row.item for sample in case.samples for row in _asked(sample) for _ in range(self._k)]
        if not items:
            return cannot(case, NAME, (ANY, MEAN), "No item of the slice failed.")
        outputs = case.model.sample(
            [case.template(item.prompt) for item in items],
            sampling=Sampling(TEMPERATURE, 1.0, tuple(case.seed + at for at in range(len(items)))),
            max_new_tokens=case.suite.max_new_tokens,
            stop=case.task.stop_strings,
        )
        wrong = wrong_ids(case, both(case))
        counts = dict.fromkeys((item.item_id for item in items), 0)
        for item, output in zip(items, outputs, strict=True):
            is_right = item.item_id in wrong and is_right_in_any_form(case.task, item, scored_text(case.task, output))
            counts[item.item_id] += is_right
        return tuple(row for sample in case.samples for row in self._rows(case, sample, counts))

    def _rows(self, case: Case, sample: Sample, counts: dict[str, int]) -> tuple[Evidence, ...]:
        own = [counts[row.item.item_id] for row in _asked(sample)]
        n, any_right = len(own), sum(count > 0 for count in own)
        if not n:
            return cannot(case, NAME, (ANY, MEAN), "No item of the slice failed.")
        mean = bootstrap_ratio([float(count) for count in own], [self._k] * n, seed=case.seed)
        draws = f"of {self._k} draws at temperature {TEMPERATURE}"
        reading = f"For {any_right} of {n} failed items some {draws} is right."
        mean_reading = f"On average {mean.value:.0%} {draws} are right."
        return (
            share(NAME, ANY, any_right, n, sample=sample.name, reading=reading),
            measured(NAME, MEAN, mean, n, sample=sample.name, reading=mean_reading),
        )


def _asked(sample: Sample) -> Sequence[Observation]:
    """The first failed items of a sample, which is in random order."""
    return sample.failed[:MOST_ITEMS]
