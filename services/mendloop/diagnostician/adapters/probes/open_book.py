"""Do worked examples, or what one must know, in the prompt help? Shows whether the skill or the fact is all that lacks.

A model without in-context ability shows about nothing here, whatever the cause: no verdict rests on it alone. Another
item's reference is the control: what rescues as often tells nothing about knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.core.records import Example, Item, fingerprint
from mendloop.core.task_hooks import Documented
from mendloop.diagnostician.adapters.probes.counterfactual import NO_MODEL, both, cannot, passing, rescued_ids, shares
from mendloop.diagnostician.adapters.probes.token_loss import training_sample
from mendloop.diagnostician.domain.case import Case, Observation
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.models.encoding import separator
from mendloop.models.generation import LanguageModel

NAME = "open_book"
RESCUED = "rescued_share"
REFERENCE = "reference_rescued_share"
MISMATCHED = "mismatched_rescued_share"
FEWEST = 2
MOST = 3
SEPARATOR = "\n\n"
SHELF = 256
"""Distinct examples of the slice among which an item's nearest are looked for."""


class OpenBook:
    """Puts solved training examples of the slice, or the item's reference text, before each failed prompt."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: shares of failed items that become right with worked examples, with their own reference, and
        with another item's."""
        if case.model is None:
            return cannot(case, NAME, (RESCUED, REFERENCE, MISMATCHED), NO_MODEL)
        return (*_worked(case, case.model), *_referenced(case, case.model))


def _worked(case: Case, model: LanguageModel) -> tuple[Evidence, ...]:
    book = training_sample(case, size=SHELF, in_slice=True)
    if len(book) < FEWEST:
        why = f"The corpus holds {len(book)} distinct examples of the slice; {FEWEST} are needed."
        return cannot(case, NAME, (RESCUED,), why)
    rows = both(case)
    rescued = rescued_ids(case, model, rows, [worked_prompt(case, row.item, book) for row in rows], stop=(SEPARATOR,))
    return tuple(shares(case, NAME, RESCUED, rescued, f"become right after up to {MOST} worked examples of the slice."))


def _referenced(case: Case, model: LanguageModel) -> tuple[Evidence, ...]:
    """With the item's own reference, and with that of another item, failed or passing, and of another target."""
    if not isinstance(case.task, Documented):
        return cannot(case, NAME, (REFERENCE, MISMATCHED), "The task family has no references.")
    texts = {row.item.item_id: case.task.background(row.item) for row in both(case)}
    rows = [row for row in both(case) if texts[row.item.item_id]]
    if not rows:
        return cannot(case, NAME, (REFERENCE, MISMATCHED), "No failed item has a reference.")
    own = rescued_ids(case, model, rows, [_with_reference(case, row, texts[row.item.item_id]) for row in rows])
    example = texts[rows[0].item.item_id]
    words = f"become right with what one must know before the prompt, e.g. {example!r}."
    found = shares(case, NAME, REFERENCE, own, words)
    pool = [(row.item.target, case.task.background(row.item)) for row in (*rows, *both(case, passing))]
    others = {row.item.item_id: _other(at, row, pool, own=texts[row.item.item_id]) for at, row in enumerate(rows)}
    rows = [row for row in rows if others[row.item.item_id]]
    if not rows:
        return (*found, *cannot(case, NAME, (MISMATCHED,), "No two items differ in reference and target."))
    other = rescued_ids(case, model, rows, [_with_reference(case, row, others[row.item.item_id]) for row in rows])
    return (*found, *shares(case, NAME, MISMATCHED, other, "become right with another item's reference."))


def _with_reference(case: Case, row: Observation, text: str) -> str:
    return case.template(f"{text} {row.item.prompt}")


def _other(at: int, row: Observation, pool: Sequence[tuple[str, str]], *, own: str) -> str:
    """The next reference of the pool that differs, of an item with another target; empty where there is none."""
    following = (*pool[at + 1 :], *pool[:at])
    return next((text for target, text in following if text and text != own and target != row.item.target), "")


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
