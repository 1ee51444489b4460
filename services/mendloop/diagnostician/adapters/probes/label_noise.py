"""Are labels of the slice's training examples wrong? Asks the verifier, looks for conflicts, and asks the model.

A model that has learnt wrong labels agrees with them, and one that has not learnt disagrees with right ones: the rest
of the corpus is the control of each share. A verifier says False also where it cannot tell.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from mendloop.core.records import Example, fingerprint
from mendloop.core.tasks import matches
from mendloop.diagnostician.adapters.probes.counterfactual import NO_MODEL
from mendloop.diagnostician.adapters.probes.training_fit import reproduce
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.cutting import is_right_in_any_form
from mendloop.diagnostician.domain.evidence import Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "label_noise"
WRONG = "wrong_label_share"
REST_WRONG = "rest_wrong_label_share"
CONFLICT = "conflict_share"
DISAGREEMENT = "disagreement_share"
REST_DISAGREEMENT = "rest_disagreement_share"
MOST_CHECKED = 500
"""Labels that are verified in and outside the slice: a share of 1 in 500 has the interval 0 to .011."""


class LabelNoise:
    """Checks labels by program where one can tell, and by the model's greedy outputs on the same training examples."""

    name = NAME
    cost_class = CostClass.GENERATED

    def __init__(self, *, size: int = 24) -> None:
        self._size = size

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Shares of wrong, conflicting and disputed labels in the slice, and of wrong and disputed ones outside."""
        inside = [row for row in case.corpus if matches(row.axes, case.conditions)]
        outside = [row for row in case.corpus if not matches(row.axes, case.conditions)]
        return (*_verified(case, inside, outside), _conflicts(inside), *self._disputed(case))

    def _disputed(self, case: Case) -> Iterator[Evidence]:
        fits = reproduce(case, size=self._size)
        for measurement, where in ((DISAGREEMENT, "of the slice"), (REST_DISAGREEMENT, "outside the slice")):
            if fits is None:
                yield missing(NAME, measurement, reading=NO_MODEL if case.model is None else "There is no corpus.")
                continue
            pairs = fits.inside if measurement == DISAGREEMENT else fits.outside
            hits = [pair for pair in pairs if not is_right_in_any_form(case.task, *pair)]
            example = ""
            if hits:
                item, output = hits[0]
                example = f", e.g. {item.prompt!r}: labelled {item.target!r}, answered {output!r}"
            reading = f"The model's output differs from the label of {len(hits)} of {len(pairs)} training examples "
            yield share(NAME, measurement, len(hits), len(pairs), reading=f"{reading}{where}{example}.")


def _verified(case: Case, inside: Sequence[Example], outside: Sequence[Example]) -> Iterator[Evidence]:
    rng = random.Random(case.seed)
    checked = {
        name: [(row, case.task.verify(row.prompt, row.completion)) for row in _some(rows, rng)]
        for name, rows in ((WRONG, inside), (REST_WRONG, outside))
    }
    can_tell = any(is_right for rows in checked.values() for _, is_right in rows)
    for (measurement, rows), where in zip(checked.items(), ("of the slice", "outside the slice"), strict=True):
        wrong = [row for row, is_right in rows if not is_right]
        if not can_tell or not rows:
            why = f"There are no training examples {where}." if not rows else "The verifier accepts no label at all."
            yield missing(NAME, measurement, reading=why)
            continue
        example = f", e.g. {wrong[0].prompt!r} labelled {wrong[0].completion!r}" if wrong else ""
        reading = f"The verifier refutes {len(wrong)} of {len(rows)} labels of training examples {where}{example}."
        yield share(NAME, measurement, len(wrong), len(rows), reading=reading)


def _some(rows: Sequence[Example], rng: random.Random) -> list[Example]:
    return rng.sample(list(rows), min(MOST_CHECKED, len(rows)))


def _conflicts(inside: Sequence[Example]) -> Evidence:
    """Share of the slice's prompts that stand in the corpus with two labels."""
    labels: dict[str, set[str]] = {}
    for row in inside:
        labels.setdefault(fingerprint(row.prompt), set()).add(" ".join(row.completion.split()))
    hits = sum(len(own) > 1 for own in labels.values())
    reading = f"{hits} of {len(labels)} prompts of the slice stand in the corpus with different labels."
    return share(NAME, CONFLICT, hits, len(labels), reading=reading)
