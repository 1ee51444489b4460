"""Are failed items right once right steps are given, and is each step right after the right ones before it?

Single steps that go right while chains fail point to chaining. A last step that copies what stands before it is easy
whatever else is missing: read rescued_share beside step_right_share and the coverage of the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mendloop.core.task_hooks import Stepwise
from mendloop.diagnostician.adapters.probes.counterfactual import NO_MODEL, both, cannot, rescued_ids
from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.evidence import Evidence, measured, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import bootstrap_ratio
from mendloop.models.encoding import separator
from mendloop.models.generation import LanguageModel

NAME = "first_steps"
RESCUED = "rescued_share"
FIRST_RIGHT = "first_step_right_share"
STEP_RIGHT = "step_right_share"
FEWEST = 2
"""With one step there is nothing to give."""

ALL = (RESCUED, FIRST_RIGHT, STEP_RIGHT)


class FirstSteps:
    """Continues each failed item from its right steps, and looks whether the output's own first step was right."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample, of the failed items with two steps or more: share rescued, share right in their own first step,
        and the share of all their steps that the model says after the right steps before them."""
        if not isinstance(case.task, Stepwise):
            return cannot(case, NAME, ALL, "The task family knows no steps.")
        steps = {row.item.item_id: tuple(case.task.worked_steps(row.item)) for row in both(case)}
        rows = [row for row in both(case) if len(steps[row.item.item_id]) >= FEWEST]
        if not rows:
            why = "No failed item has two steps or more."
            return cannot(case, NAME, ALL, why)
        first = {row.item.item_id for row in rows if begins_with(row.outcome.output, steps[row.item.item_id][0])}
        own = [_own_steps(sample, rows, steps, first) for sample in case.samples]
        if case.model is None:
            return (*own, *cannot(case, NAME, (RESCUED, STEP_RIGHT), NO_MODEL))
        given = [given_text(steps[row.item.item_id]) for row in rows]
        prompts = [case.template(row.item.prompt) for row in rows]
        prompts = [text + separator(text, start) + start.rstrip() for text, start in zip(prompts, given, strict=True)]
        rescued = rescued_ids(case, case.model, rows, prompts, given=given)
        said = _said_steps(case, case.model, rows, steps)
        return (
            *own,
            *(_rescued(sample, rows, rescued) for sample in case.samples),
            *(_step_right(case, sample, rows, said) for sample in case.samples),
        )


def given_text(steps: Sequence[str]) -> str:
    """All steps but the last, ending with the white space that parts it from them.

    A model continues from the text without that space, as it would have said it.
    """
    start, last = "".join(steps[:-1]), steps[-1]
    space = start[len(start.rstrip()) :] + last[: len(last) - len(last.lstrip())]
    return start.rstrip() + space


def _said_steps(
    case: Case, model: LanguageModel, rows: Sequence[Observation], steps: Mapping[str, Sequence[str]]
) -> dict[str, list[tuple[str, bool]]]:
    """Each step of each item, and whether it is the model's most probable text after the right steps before it.

    Empty where the backend does not tell. Steps that no white space parts are left out: alone they are other tokens.
    """
    asked: list[tuple[str, str, str]] = []
    for row in rows:
        start = case.template(row.item.prompt)
        parts = steps[row.item.item_id]
        for at, step in enumerate(parts):
            before = "".join(parts[:at])
            if before and not (before[-1].isspace() or step[0].isspace()):
                continue
            asked.append((row.item.item_id, start + separator(start, before) + before.rstrip(), step.strip()))
    scored = model.logprobs([prompt for _, prompt, _ in asked], [step for _, _, step in asked])
    said: dict[str, list[tuple[str, bool]]] = {}
    for (name, _, step), one in zip(asked, scored, strict=True):
        if one.is_greedy is not None:
            said.setdefault(name, []).append((step, one.is_greedy))
    return said


def _step_right(
    case: Case, sample: Sample, rows: Sequence[Observation], said: Mapping[str, Sequence[tuple[str, bool]]]
) -> Evidence:
    own = [said[row.item.item_id] for row in _within(sample, rows) if row.item.item_id in said]
    if not own:
        return missing(NAME, STEP_RIGHT, reading="The model does not tell what it would say.", sample=sample.name)
    hits = [sum(is_right for _, is_right in steps) for steps in own]
    value = bootstrap_ratio([float(hit) for hit in hits], [len(steps) for steps in own], seed=case.seed)
    wrong = [step for steps in own for step, is_right in steps if not is_right]
    example = f"; not, for example, {wrong[0]!r}" if wrong else ""
    reading = f"After the right steps before it the model says {value.value:.0%} of all steps right{example}."
    return measured(NAME, STEP_RIGHT, value, len(own), sample=sample.name, reading=reading)


def begins_with(output: str, step: str) -> bool:
    """Whether an output begins with a step as a whole ("12" does not begin with the step "1")."""
    words, wanted = output.split(), step.split()
    return bool(wanted) and words[: len(wanted)] == wanted


def _within(sample: Sample, rows: Sequence[Observation]) -> list[Observation]:
    own = {row.item.item_id for row in sample.failed}
    return [row for row in rows if row.item.item_id in own]


def _rescued(sample: Sample, rows: Sequence[Observation], rescued: set[str]) -> Evidence:
    own = _within(sample, rows)
    hits = sum(row.item.item_id in rescued for row in own)
    reading = f"Given all right steps but the last, {hits} of {len(own)} failed items become right."
    return share(NAME, RESCUED, hits, len(own), sample=sample.name, reading=reading)


def _own_steps(
    sample: Sample, rows: Sequence[Observation], steps: dict[str, tuple[str, ...]], first: set[str]
) -> Evidence:
    own = _within(sample, rows)
    hits = sum(row.item.item_id in first for row in own)
    tally = Counter(_wrong_place(row, steps[row.item.item_id]) for row in own)
    common = f"; they go wrong first at {_listed(tally)}" if own else ""
    reading = f"{hits} of {len(own)} failed outputs begin with a right first step{common}."
    return share(NAME, FIRST_RIGHT, hits, len(own), sample=sample.name, reading=reading)


def _listed(tally: Counter[str]) -> str:
    return ", ".join(f"{place} ({count})" for place, count in tally.most_common(3))


def _wrong_place(row: Observation, steps: Sequence[str]) -> str:
    """The operation that the scorer named, or the first step that the output does not say."""
    if row.outcome.wrong_operation:
        return row.outcome.wrong_operation
    right = 0
    while right < len(steps) and begins_with(row.outcome.output, "".join(steps[: right + 1])):
        right += 1
    if right == len(steps):
        return "nothing before the end"
    return f"step {right + 1} of {len(steps)}" + _operation(steps[right], row.item.prompt)


def _operation(step: str, prompt: str) -> str:
    """The words, no numbers, that a step shares with its prompt: the operation that it does."""
    asked = set(prompt.split())
    words = [word for word in dict.fromkeys(step.split()) if word in asked and not word.isdigit()]
    return f" ({' '.join(words)})" if words else ""
