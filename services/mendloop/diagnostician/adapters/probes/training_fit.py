"""Does the model reproduce its own training examples? Greedy outputs of small samples, also cut where they end."""

from __future__ import annotations

from typing import NamedTuple

from mendloop.core.records import Example, Item
from mendloop.diagnostician.adapters.probes.token_loss import training_sample
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.cutting import is_right_in_any_form, is_right_when_cut
from mendloop.diagnostician.domain.evidence import Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.models.asking import scored_text

NAME = "training_fit"
RIGHT = "right_share"
RIGHT_WHEN_CUT = "right_when_cut_share"
SLICE_RIGHT = "slice_right_share"

Outputs = list[tuple[Item, str]]


class Fits(NamedTuple):
    """Training examples as items with the model's outputs: from anywhere, from the slice, from outside it."""

    anywhere: Outputs
    inside: Outputs
    outside: Outputs


class TrainingFit:
    """A model that cannot do its own corpus is not short of data; one that cannot do the slice's part may be."""

    name = NAME
    cost_class = CostClass.GENERATED

    def __init__(self, *, size: int = 24) -> None:
        self._size = size

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Share right by the suite's scorer, and share right when cut (a model that never stops may have learnt); and
        of the slice's own examples the share right by either scorer, cut or not."""
        fits = reproduce(case, size=self._size)
        if fits is None:
            why = "There is no model to generate with." if case.model is None else "There is no training corpus."
            return tuple(missing(NAME, row, reading=why) for row in (RIGHT, RIGHT_WHEN_CUT, SLICE_RIGHT))
        pairs, n = fits.anywhere, len(fits.anywhere)
        right = sum(case.task.score(item, text).value >= 1 for item, text in pairs)
        cut = sum(is_right_when_cut(case.task, item, text) for item, text in pairs)
        reading = f"The model gets {right} of {n} of its training examples right."
        cut_reading = f"Cut where they end, it gets {cut} of {n} of its training examples right."
        return (
            share(NAME, RIGHT, right, n, reading=reading),
            share(NAME, RIGHT_WHEN_CUT, cut, n, reading=cut_reading),
            _slice_right(case, fits.inside),
        )


def reproduce(case: Case, *, size: int) -> Fits | None:
    """Greedy outputs after the prompts of training examples; None without a model or a corpus."""
    places = (None, True, False)
    groups = [training_sample(case, size=size, in_slice=in_slice) for in_slice in places]
    rows = [row for group in groups for row in group]
    if case.model is None or not rows:
        return None
    prompts = [case.template(row.prompt) for row in rows]
    # the suite's token limit may be the fault that is looked for: an answer and its EOS get the room they need
    scored = case.model.logprobs(prompts, [row.completion for row in rows])
    room = 1 + max(len(one.tokens) for one in scored)
    outputs = case.model.generate(prompts, max_new_tokens=room, stop=case.task.stop_strings)
    said = iter(
        [
            (_as_item(row, at), scored_text(case.task, out))
            for at, (row, out) in enumerate(zip(rows, outputs, strict=True))
        ]
    )
    anywhere, inside, outside = ([next(said) for _ in group] for group in groups)
    return Fits(anywhere, inside, outside)


def _slice_right(case: Case, pairs: Outputs) -> Evidence:
    right, n = sum(is_right_in_any_form(case.task, item, text) for item, text in pairs), len(pairs)
    reading = f"The model gets {right} of {n} training examples of the slice right."
    return share(NAME, SLICE_RIGHT, right, n, reading=reading)


def _as_item(example: Example, index: int) -> Item:
    """A training example in the scorer's form; it is no evaluation item and is stored nowhere."""
    return Item(f"training-{index}", example.prompt, example.completion, "search", axes=example.axes)
