"""Puts failed items to a model in another way and counts which become right. Knows no particular change.

Before and after are judged by is_right_in_any_form: what was right but for its end or its dress cannot be rescued.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.cutting import is_right_in_any_form
from mendloop.diagnostician.domain.evidence import Evidence, missing, share
from mendloop.models.asking import scored_text
from mendloop.models.generation import LanguageModel

NO_MODEL = "There is no model to generate with."

Group = Callable[[Sample], Sequence[Observation]]


def failed(sample: Sample) -> Sequence[Observation]:
    """The failed items of a sample."""
    return sample.failed


def passing(sample: Sample) -> Sequence[Observation]:
    """The passing items of a sample, from every slice."""
    return sample.passing


def both(case: Case, group: Group = failed) -> list[Observation]:
    """The items of both samples: one batch is cheaper than two."""
    return [row for sample in case.samples for row in group(sample)]


def right_ids(
    case: Case,
    model: LanguageModel,
    rows: Sequence[Observation],
    prompts: Sequence[str],
    *,
    given: Sequence[str] = (),
    stop: Sequence[str] = (),
) -> set[str]:
    """Ids of the items whose output after their prompt (template applied) is right.

    given is what stands at the end of each prompt as the beginning of the answer; the output is judged with it.
    stop holds strings that end an output beside the task's own.
    """
    stop = (*case.task.stop_strings, *stop)
    outputs = model.generate(prompts, max_new_tokens=case.suite.max_new_tokens, stop=stop)
    texts = [scored_text(case.task, one) for one in outputs]
    if given:
        texts = [start + text for start, text in zip(given, texts, strict=True)]
    pairs = zip(rows, texts, strict=True)
    return {row.item.item_id for row, text in pairs if is_right_in_any_form(case.task, row.item, text)}


def rescued_ids(
    case: Case,
    model: LanguageModel,
    rows: Sequence[Observation],
    prompts: Sequence[str],
    *,
    given: Sequence[str] = (),
    stop: Sequence[str] = (),
) -> set[str]:
    """right_ids of the items whose stored output was wrong in any form."""
    return right_ids(case, model, rows, prompts, given=given, stop=stop) & wrong_ids(case, rows)


def wrong_ids(case: Case, rows: Sequence[Observation]) -> set[str]:
    """Ids of the items whose stored output is wrong in any form."""
    return {row.item.item_id for row in rows if not is_right_in_any_form(case.task, row.item, row.outcome.output)}


def shares(
    case: Case, probe: str, measurement: str, hits: Collection[str], words: str, *, group: Group = failed
) -> list[Evidence]:
    """One row a sample: the share of its items that are among hits. words follows "3 of 24 failed items"."""
    kind = "failed" if group is failed else "passing"
    rows = []
    for sample in case.samples:
        n = len(group(sample))
        count = sum(row.item.item_id in hits for row in group(sample))
        reading = f"{count} of {n} {kind} items {words}"
        rows.append(share(probe, measurement, count, n, sample=sample.name, reading=reading))
    return rows


def cannot(case: Case, probe: str, measurements: Sequence[str], why: str) -> tuple[Evidence, ...]:
    """Rows of a probe that could not run, for each measurement and sample."""
    return tuple(
        missing(probe, measurement, reading=why, sample=sample.name)
        for measurement in measurements
        for sample in case.samples
    )
