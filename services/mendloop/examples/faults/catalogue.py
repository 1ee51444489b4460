"""The catalogue: one fault a cause, what it does, what its severity means, and where it can be planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mendloop.core.errors import InvalidRecipe
from mendloop.diagnostician.domain.causes import Cause, family_of
from mendloop.diagnostician.domain.causes import Family as Side
from mendloop.examples.faults.family import Family, Place
from mendloop.examples.faults.plan import Dose, Plan
from mendloop.examples.faults.plants import data, evaluation, training

WHOLE_SUITE = Place((), frozenset())
_SIMILAR = {Cause.CONTAMINATION: Cause.DATA_MISSING, Cause.FORGETTING: Cause.DATA_MISSING}
"""A place that suits the second suits the first: both take the slice out of the corpus."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to plant a cause. A slice fault lies in one slice, a suite fault touches everything."""

    name: str
    cause: Cause
    does: str
    severity: str
    scope: Literal["slice", "suite"]
    plant: Callable[[Plan, Dose], Plan]

    @property
    def side(self) -> Side:
        """Who would have to act."""
        return family_of(self.cause)

    def places(self, family: Family, *, seed: int) -> list[Place]:
        """Where it can be planted, in the seed's order; empty where the family does not suit it."""
        if self.scope == "suite":
            has_scorer = self.cause in family.traits.scorer_options
            return [WHOLE_SUITE] if has_scorer or self.cause not in _SCORERS else []
        found = [place for place in family.places(seed) if self._suits(place)]
        return [place for place in found if place.terms] if self.cause is Cause.KNOWLEDGE_GAP else found

    def _suits(self, place: Place) -> bool:
        return self.cause in place.causes or _SIMILAR.get(self.cause) in place.causes


_SCORERS = (Cause.SCORER_BUG, Cause.EXTRACTION_FAILURE)

FAULTS = (
    Fault(
        "missing",
        Cause.DATA_MISSING,
        "every example of the slice is taken out of the corpus",
        "twice the share of examples with one of its values that go too",
        "slice",
        data.missing,
    ),
    Fault(
        "rare",
        Cause.DATA_SKEW,
        "only a few examples of the slice stay in the corpus",
        "2 % stay at 0, .4 % at 1, never fewer than two examples",
        "slice",
        data.skewed,
    ),
    Fault(
        "unknown-terms",
        Cause.KNOWLEDGE_GAP,
        "no example of the corpus holds a term that items of the slice need",
        "share of the slice's terms",
        "slice",
        data.unknown_terms,
    ),
    Fault(
        "no-steps",
        Cause.REASONING_GAP,
        "examples of the slice give the answer without its steps",
        "share of the slice's examples",
        "slice",
        data.without_steps,
    ),
    Fault(
        "wrong-labels",
        Cause.DATA_CORRUPTED,
        "examples of the slice have wrong completions",
        "share of the slice's examples",
        "slice",
        data.corrupted,
    ),
    Fault(
        "unusual-words",
        Cause.PHRASING_MISMATCH,
        "items of the slice are worded as the corpus never is",
        "share of the slice's items",
        "slice",
        data.unusual_words,
    ),
    Fault(
        "leaked-items",
        Cause.CONTAMINATION,
        "the slice is taken out of the corpus, some of its evaluation items stand in it twelve times",
        "45 % of the items leak at 0, 20 % at 1",
        "slice",
        data.leaked,
    ),
    Fault(
        "eos-masked",
        Cause.EOS_MASKED,
        "EOS carries no loss, as where padding is EOS and masked",
        "none: what masks one EOS masks all",
        "suite",
        training.without_eos,
    ),
    Fault(
        "labels-masked",
        Cause.LABEL_MASK_WRONG,
        "the first part of each completion carries no loss",
        "30 % of the tokens at 0, 90 % at 1",
        "suite",
        training.hidden_labels,
    ),
    Fault(
        "other-template",
        Cause.TEMPLATE_MISMATCH,
        "training uses another template than the declared one",
        "none: every example uses it",
        "suite",
        training.other_template,
    ),
    Fault(
        "undertrained",
        Cause.DIVERGED_OR_UNDERTRAINED,
        "too few steps, or a learning rate that is too high",
        "35 % of the steps at 0, 5 % at 1; 12 times the rate at 0, 80 times at 1",
        "suite",
        training.undertrained,
    ),
    Fault(
        "forgotten",
        Cause.FORGETTING,
        "a healthy checkpoint is trained on without anything that shares a value with the slice",
        "how long, 1 is 60 % of the healthy steps",
        "slice",
        training.forgotten,
    ),
    Fault(
        "wrong-scorer",
        Cause.SCORER_BUG,
        "the scorer reads something else than the answer",
        "none: it is one program",
        "suite",
        evaluation.faulty_scorer,
    ),
    Fault(
        "blind-scorer",
        Cause.EXTRACTION_FAILURE,
        "the scorer finds no answer in right outputs",
        "none: it is one program",
        "suite",
        evaluation.blind_scorer,
    ),
    Fault(
        "cut-off",
        Cause.TRUNCATION,
        "the token limit cuts right outputs off",
        "35 % of the items at 0, 90 % at 1",
        "suite",
        evaluation.short_budget,
    ),
    Fault(
        "wrapped",
        Cause.PROMPT_FORMAT,
        "the evaluation puts prompts in a format that training never saw",
        "40 % of the items at 0, all at 1",
        "suite",
        evaluation.wrapped_prompts,
    ),
    Fault(
        "wrong-targets",
        Cause.BENCHMARK_LABEL_ERROR,
        "items of the slice have wrong targets",
        "35 % of the slice's items at 0, 80 % at 1",
        "slice",
        evaluation.wrong_targets,
    ),
    Fault(
        "too-small",
        Cause.CAPACITY,
        "the model is too small for the corpus",
        "up to .5 twice the family's small width, above it that width",
        "suite",
        training.too_small,
    ),
    Fault(
        "flaky-outputs",
        Cause.UNKNOWN,
        "control: outputs at random are another item's",
        "35 % of the items at 0, 70 % at 1",
        "suite",
        evaluation.flaky_outputs,
    ),
    Fault(
        "damaged-weights",
        Cause.UNKNOWN,
        "control: noise on the trained weights",
        "noise of .2 of a matrix's standard deviation at 0, .7 at 1",
        "suite",
        training.damaged_weights,
    ),
)
"""The last two are no cause of the list: the right answer to them is to abstain."""


def find_fault(name: str) -> Fault:
    """The fault of a name, or of a cause's name. Raises InvalidRecipe for an unknown one."""
    found = [fault for fault in FAULTS if name in (fault.name, fault.cause.value)]
    if not found:
        raise InvalidRecipe(f"unknown fault {name!r}; there are {', '.join(fault.name for fault in FAULTS)}")
    return found[0]
