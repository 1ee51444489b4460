"""Do worked examples in the prompt help? Shows whether a model without the skill can pick it up from the context.

A model without in-context ability shows about nothing here, whatever the cause: no verdict rests on it alone.
"""

from __future__ import annotations

from mendloop.core.records import Example, Item, fingerprint
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.evidence import Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.models.asking import scored_text
from mendloop.models.encoding import separator
from mendloop.models.generation import LanguageModel

NAME = "open_book"
RESCUED = "rescued_share"
FEWEST = 2
MOST = 3
SEPARATOR = "\n\n"


class OpenBook:
    """Puts two or three solved training examples of the slice before each failed prompt."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failed items that become right."""
        book = list({row.prompt: row for row in case.corpus if matches(row.axes, case.conditions)}.values())
        if case.model is None:
            return _missing(case, "There is no model to generate with.")
        if len(book) < FEWEST:
            return _missing(case, f"The corpus holds {len(book)} distinct examples of the slice; {FEWEST} are needed.")
        return tuple(_row(case, case.model, sample, book) for sample in case.samples)


def worked_prompt(case: Case, item: Item, book: list[Example]) -> str:
    """The item's prompt after its nearest worked examples by shared axis values; never with the item itself."""
    own = fingerprint(item.prompt)
    others = [row for row in book if fingerprint(row.prompt) != own]
    nearest = sorted(others, key=lambda row: (-_shared(row, item), row.prompt))[:MOST]
    solved = [_solved(case, row) for row in reversed(nearest)]
    return SEPARATOR.join((*solved, case.template(item.prompt)))


def _solved(case: Case, example: Example) -> str:
    prompt = case.template(example.prompt)
    return prompt + separator(prompt, example.completion) + example.completion


def _shared(example: Example, item: Item) -> int:
    return sum(value in example.axes.get(axis, ()) for axis, values in item.axes.items() for value in values)


def _missing(case: Case, why: str) -> tuple[Evidence, ...]:
    return tuple(missing(NAME, RESCUED, reading=why, sample=sample.name) for sample in case.samples)


def _row(case: Case, model: LanguageModel, sample: Sample, book: list[Example]) -> Evidence:
    prompts = [worked_prompt(case, row.item, book) for row in sample.failed]
    stop = (*case.task.stop_strings, SEPARATOR)
    outputs = model.generate(prompts, max_new_tokens=case.suite.max_new_tokens, stop=stop)
    pairs = zip(sample.failed, outputs, strict=True)
    rescued = sum(case.task.score(row.item, scored_text(case.task, output)).value >= 1 for row, output in pairs)
    n = len(sample.failed)
    reading = f"With up to {MOST} worked examples of the slice before them {rescued} of {n} failed items become right."
    return share(NAME, RESCUED, rescued, n, sample=sample.name, reading=reading)
