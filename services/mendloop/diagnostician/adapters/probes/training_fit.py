"""Does the model reproduce its own training examples? Greedy outputs of a small sample, also cut where they end."""

from __future__ import annotations

from mendloop.core.records import Example, Item
from mendloop.diagnostician.adapters.probes.token_loss import training_sample
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.cutting import is_right_when_cut
from mendloop.diagnostician.domain.evidence import Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.models.asking import scored_text

NAME = "training_fit"
RIGHT = "right_share"
RIGHT_WHEN_CUT = "right_when_cut_share"


class TrainingFit:
    """A model that cannot do its own corpus is not short of data."""

    name = NAME
    cost_class = CostClass.GENERATED

    def __init__(self, *, size: int = 24) -> None:
        self._size = size

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Share right by the suite's scorer, and share right when cut (a model that never stops may have learnt)."""
        rows = training_sample(case, size=self._size)
        if case.model is None or not rows:
            why = "There is no model to generate with." if case.model is None else "There is no training corpus."
            return tuple(missing(NAME, row, reading=why) for row in (RIGHT, RIGHT_WHEN_CUT))
        prompts = [case.template(row.prompt) for row in rows]
        # the suite's token limit may be the fault that is looked for: an answer and its EOS get the room they need
        scored = case.model.logprobs(prompts, [row.completion for row in rows])
        room = 1 + max(len(one.tokens) for one in scored)
        outputs = case.model.generate(prompts, max_new_tokens=room, stop=case.task.stop_strings)
        pairs = [
            (_as_item(row, at), scored_text(case.task, output))
            for at, (row, output) in enumerate(zip(rows, outputs, strict=True))
        ]
        right = sum(case.task.score(item, text).value >= 1 for item, text in pairs)
        cut = sum(is_right_when_cut(case.task, item, text) for item, text in pairs)
        n = len(pairs)
        return (
            share(NAME, RIGHT, right, n, reading=f"The model gets {right} of {n} of its training examples right."),
            share(
                NAME,
                RIGHT_WHEN_CUT,
                cut,
                n,
                reading=f"Cut where they end, it gets {cut} of {n} of its training examples right.",
            ),
        )


def _as_item(example: Example, index: int) -> Item:
    """A training example in the scorer's form; it is no evaluation item and is stored nowhere."""
    return Item(f"training-{index}", example.prompt, example.completion, "search", axes=example.axes)
