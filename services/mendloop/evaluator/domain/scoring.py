"""Owns how an output becomes an outcome, and counts over outcomes. Knows neither models nor stores.

What cannot be scored raises Permanent with the item's name; a sealed item is never named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from mendloop.core.errors import Permanent
from mendloop.core.records import Item, Outcome
from mendloop.core.tasks import Conditions, Task, matches
from mendloop.models.asking import scored_text
from mendloop.models.generation import Generation, TokenLogprobs

EMPTY = "empty"
"""Extraction status of an output without any text."""


class Cost(NamedTuple):
    """What scoring cost. token_count counts generated tokens."""

    wall_s: float = 0.0
    gpu_s: float = 0.0
    token_count: int = 0


def total_cost(costs: Iterable[Cost]) -> Cost:
    """The sum of several costs."""
    parts = list(costs)
    return Cost(sum(c.wall_s for c in parts), sum(c.gpu_s for c in parts), sum(c.token_count for c in parts))


class Tally(NamedTuple):
    """Right answers among n."""

    correct: int
    n: int


class PairedCounts(NamedTuple):
    """Two measurements of the same n items: who got which right."""

    n: int
    only_baseline: int
    only_candidate: int
    both: int


def outcome_of(
    item: Item,
    *,
    generation: Generation,
    logprobs: TokenLogprobs,
    task: Task,
    repeat_index: int = 0,
    seed: int = 0,
) -> Outcome:
    """The outcome of one output under the suite's own scorer.

    target_logprob is the sum over the target's tokens and the EOS after them, in nats; -inf is a possible value, NaN is
    not. Raises Permanent where a score or log-probability is impossible.
    """
    target_logprob = sum(logprobs.tokens) + logprobs.eos
    if math.isnan(target_logprob):
        raise Permanent(
            f"the log-probability of the target of {_name(item)} is NaN: the checkpoint's weights or its numeric type"
            " are broken; check the weights for NaN, or load it in float32"
        )
    said = scored_text(task, generation)
    try:
        score = task.score(item, said)
    except Exception as error:  # a scorer is foreign code; what it says about a sealed item must not leave
        reason = type(error).__name__ if item.split == "sealed" else f"{type(error).__name__}: {error}"
        raise Permanent(f"the scorer failed on {_name(item)}: {reason}; repair the task's scorer") from None
    return Outcome(
        item_id=item.item_id,
        split=item.split,
        prompt=item.prompt,
        output=said,
        target=item.target,
        score=score.value,
        prompt_token_count=generation.prompt_token_count,
        output_token_count=generation.output_token_count,
        stop_reason=generation.stop_reason,
        extraction=score.extraction if said.strip() else EMPTY,
        target_logprob=target_logprob,
        repeat_index=repeat_index,
        axes=item.axes,
        latency_s=generation.latency_s,
        seed=seed,
        candidate_count=score.candidate_count,
        first_wrong_step=score.first_wrong_step,
        wrong_operation=score.wrong_operation,
        target_logprobs=(*logprobs.tokens, logprobs.eos),
    )


def single_slices(outcomes: Iterable[Outcome], *, axes: Sequence[str]) -> list[tuple[tuple[str, str], ...]]:
    """Every slice with one condition that some outcome belongs to, in order of axis and value."""
    found = {(axis, value) for outcome in outcomes for axis in axes for value in outcome.axes.get(axis, ())}
    return [(pair,) for pair in sorted(found)]


def tally(outcomes: Iterable[Outcome], conditions: Conditions = ()) -> Tally:
    """Right answers of a slice."""
    right = [outcome.is_correct for outcome in outcomes if matches(outcome.axes, conditions)]
    return Tally(sum(right), len(right))


def failed_ids(outcomes: Iterable[Outcome], conditions: Conditions, *, limit: int) -> list[str]:
    """Ids of failed items of a slice, at most `limit`, in the order of the outcomes."""
    ids = (o.item_id for o in outcomes if not o.is_correct and matches(o.axes, conditions))
    return list(islice(ids, limit))


def paired(baseline: Sequence[Outcome], candidate: Sequence[Outcome], conditions: Conditions = ()) -> PairedCounts:
    """Paired counts of a slice. Raises ValueError where the two did not measure the same items."""
    before = _by_id(baseline)
    after = _by_id(candidate)
    if before.keys() != after.keys():
        raise ValueError(
            f"the two evaluations share {len(before.keys() & after.keys())} of {len(before)} and {len(after)} items;"
            " a pair needs the same items"
        )
    pairs = [(before[i].is_correct, o.is_correct) for i, o in after.items() if matches(o.axes, conditions)]
    return PairedCounts(
        n=len(pairs),
        only_baseline=pairs.count((True, False)),
        only_candidate=pairs.count((False, True)),
        both=pairs.count((True, True)),
    )


def twin_cells(rows: Iterable[tuple[bool, bool, bool, bool]]) -> list[int]:
    """16 counts of (item under baseline, under candidate, twin under baseline, under candidate), as 8, 4, 2, 1."""
    cells = [0] * 16
    for item_before, item_after, twin_before, twin_after in rows:
        cells[8 * item_before + 4 * item_after + 2 * twin_before + twin_after] += 1
    return cells


def _by_id(outcomes: Sequence[Outcome]) -> Mapping[str, Outcome]:
    return {outcome.item_id: outcome for outcome in outcomes}


def _name(item: Item) -> str:
    return "a sealed item (its name stays sealed)" if item.split == "sealed" else f"item {item.item_id!r}"
