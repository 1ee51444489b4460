"""Does the hidden state before a wrong token hold the right one? A linear classifier with a control task.

It reads the state of the last token before the place where a failed output goes wrong. It learns from passing items
and training examples of the slice, at places as far into their answers: what it reads, the model has and does not use.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mendloop.core.records import Example, fingerprint
from mendloop.core.stats import clopper_pearson
from mendloop.core.tasks import matches
from mendloop.diagnostician.adapters.looking import Look, Looking
from mendloop.diagnostician.domain.answers import Answered, answered, right_text
from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.evidence import Evidence, exact, measured, missing, share
from mendloop.diagnostician.domain.linear import (
    Basis,
    Fitted,
    Labelled,
    bases,
    best_of,
    control_labels,
    fits,
    telling_positions,
    types_of,
)
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import Estimate, difference, estimate
from mendloop.models.encoding import Ids, encode_examples
from mendloop.models.inspection import Inside, evenly

NAME = "linear_probe"
ACCURACY = "accuracy"
CONTROL = "control_accuracy"
SELECTIVITY = "selectivity"
PASSING = "passing_accuracy"
LAYER = "best_layer"
MOST_LAYERS = 6
FEWEST_ROWS = 30
"""Fewer rows to learn from leave six or less to choose a layer by."""
FEWEST_FAILED = 5
PLACES = 2
"""Places of one passing answer that are learnt from."""
CONTROLS = 5
"""Random label draws of the control task: one alone may by chance resemble the true labels."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A prompt with the answer up to some place, and the token that is right there."""

    prompt: Ids
    label: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows to fit, to choose layer and strength, and passing ones held out; failed ones by sample."""

    fitted: list[_Row]
    chosen: list[_Row]
    passing: list[_Row]
    failed: dict[str, list[_Row]]
    refuted_count: int


@dataclass(frozen=True, slots=True)
class _Read:
    """The rows with the states that were read for them."""

    rows: _Rows
    layers: tuple[int, ...]
    bases: list[Basis]
    chosen: Labelled
    passing: Labelled
    failed: dict[str, Labelled]


class LinearProbe:
    """Hidden states of a few hundred prompts in one pass each; ridge regressions on the CPU."""

    name = NAME
    cost_class = CostClass.SCORED

    def __init__(self, *, look: Look | None = None, size: int = 256) -> None:
        self._look = look or Looking()
        self._size = size

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample accuracy on failed items, on the control task, and their difference; accuracy on passing items."""
        if not any(sample.failed for sample in case.samples):
            return _missing(case, "No failed item is at hand.")
        inside = self._look(case)
        if inside is None:
            return _missing(case, "The checkpoint's weights are not at hand, so its inside cannot be read.")
        rows = _gather(case, inside, size=self._size)
        return _missing(case, rows) if isinstance(rows, str) else tuple(_measure(case, inside, rows))


def _missing(case: Case, why: str) -> tuple[Evidence, ...]:
    names = (ACCURACY, CONTROL, SELECTIVITY)
    return tuple(missing(NAME, row, reading=why, sample=sample.name) for sample in case.samples for row in names)


def _gather(case: Case, inside: Inside, *, size: int) -> _Rows | str:
    """The rows, or why there are too few."""
    wrong = {sample.name: _wrong(case, inside, sample) for sample in case.samples}
    places = [at for rows in wrong.values() for _, at in rows]
    if len(places) < FEWEST_FAILED:
        return f"{len(places)} failed outputs have a wrong token in their answer; {FEWEST_FAILED} are needed."
    examples, refuted_count = _teachers(case, size=size)
    rng = random.Random(case.seed)
    rng.shuffle(examples)
    teachers = [_places(row, places, rng=rng) for row in _encoded(case, inside, examples)]
    first, second = round(0.6 * len(teachers)), round(0.8 * len(teachers))
    fitted, chosen, passing = (
        [row for rows in part for row in rows] for part in (teachers[:first], teachers[first:second], teachers[second:])
    )
    if len(fitted) + len(chosen) < FEWEST_ROWS or len(set(_labels(fitted))) < 2:
        return (
            f"{len(teachers)} passing items and examples of the slice, with {len(set(_labels(fitted)))} different "
            "tokens: too few to learn from."
        )
    failed = {name: [_row(row, at) for row, at in rows] for name, rows in wrong.items()}
    return _Rows(fitted, chosen, passing, failed, refuted_count)


def _wrong(case: Case, inside: Inside, sample: Sample) -> list[tuple[Answered, int]]:
    """Failed items with the index of their first wrong token; those that only go on too long have none."""
    rows = _answers(case, inside, sample)
    return [(row, at) for row in rows if (at := row.first_wrong) is not None]


def _row(answer: Answered, at: int) -> _Row:
    return _Row(answer.prompt + answer.right[:at], answer.right[at])


def _places(answer: Answered, wrong_at: Sequence[int], *, rng: random.Random) -> list[_Row]:
    """Places of a passing answer, drawn from those where failed outputs go wrong."""
    possible = [at for at in wrong_at if at < len(answer.right)]
    drawn = {rng.choice(possible) for _ in range(PLACES)} if possible else set()
    return [_row(answer, at) for at in sorted(drawn)]


def _answers(case: Case, inside: Inside, sample: Sample) -> list[Answered]:
    prompts = [case.template(row.item.prompt) for row in sample.failed]
    right = encode_examples(inside.tokenizer, prompts, [right_text(case.task, row.item) for row in sample.failed])
    said = encode_examples(inside.tokenizer, prompts, [row.outcome.output for row in sample.failed])
    return answered(right, said)


def _teachers(case: Case, *, size: int) -> tuple[list[Example], int]:
    """Passing items, and half as many training examples of the slice, none of them a failed item.

    Also the number of training examples left out because the task refutes their completion; it is asked only where it
    accepts the passing items' targets, that is, where it can tell.
    """
    rng = random.Random(case.seed)
    failed = {fingerprint(row.item.prompt) for sample in case.samples for row in sample.failed}
    passed = {row.prompt: row for sample in case.samples for row in sample.outcomes if row.is_correct}
    items = rng.sample(list(passed.values()), min(size, len(passed)))
    own = {row.prompt: row for row in case.corpus if matches(row.axes, case.conditions)}
    fresh = [row for row in own.values() if fingerprint(row.prompt) not in failed]
    fresh = rng.sample(fresh, min(size // 2, len(fresh)))
    can_tell = bool(items) and all(case.task.verify(item.prompt, item.target) for item in items[:5])
    sound = [row for row in fresh if not can_tell or case.task.verify(row.prompt, row.completion)]
    solved = [Example(row.prompt, row.output, "passing") for row in items if row.output]
    known = {fingerprint(row.prompt) for row in solved}
    return solved + [row for row in sound if fingerprint(row.prompt) not in known], len(fresh) - len(sound)


def _encoded(case: Case, inside: Inside, examples: Sequence[Example]) -> list[Answered]:
    prompts = [case.template(row.prompt) for row in examples]
    right = encode_examples(inside.tokenizer, prompts, [row.completion for row in examples])
    return answered(right, right)


def _measure(case: Case, inside: Inside, rows: _Rows) -> Iterator[Evidence]:
    read = _read(inside, rows)
    names = list(rows.failed)
    for name, other in zip(names, reversed(names), strict=True):
        # the failed items of the other sample help to choose: many layers tell the passing ones apart
        fitted = best_of(fits(read.bases, _labels(rows.fitted)), [read.chosen, read.failed[other]])
        passing = _passing(fitted, read, name)
        yield passing
        yield _layer(fitted, read, name, layer_count=inside.layer_count)
        yield from _sample(case, read, name, other, fitted, passing=passing.estimate)


def _read(inside: Inside, rows: _Rows) -> _Read:
    layers = evenly(inside.layer_count, most=MOST_LAYERS, first=1)
    groups = [rows.fitted, rows.chosen, rows.passing, *rows.failed.values()]
    states = inside.states([row.prompt for group in groups for row in group], layers=layers)[:, :, 0]
    fitted, *parts = np.split(states, np.cumsum([len(group) for group in groups])[:-1])
    chosen, passing, *failed = [(part, _labels(group)) for part, group in zip(parts, groups[1:], strict=True)]
    return _Read(rows, layers, bases(fitted), chosen, passing, dict(zip(rows.failed, failed, strict=True)))


def _labels(rows: Sequence[_Row]) -> list[int]:
    return [row.label for row in rows]


def _passing(fitted: Fitted, read: _Read, name: str) -> Evidence:
    hits, n = fitted.hits(read.passing), len(read.rows.passing)
    refuted_count = read.rows.refuted_count
    refuted = f"; {refuted_count} training examples with a refuted label are left out" * bool(refuted_count)
    reading = (
        f"Learnt at {len(read.rows.fitted)} places of passing items and examples of the slice, a linear classifier of "
        f"the state names the next token at {hits} of {n} places of held-out ones{refuted}."
    )
    return share(NAME, PASSING, hits, n, reading=reading, sample=name)


def _layer(fitted: Fitted, read: _Read, name: str, *, layer_count: int) -> Evidence:
    layer = read.layers[fitted.layer]
    reading = (
        f"Of layers {', '.join(map(str, read.layers))} of {layer_count} the state after layer {layer} tells most, on "
        "passing items that neither fit nor test it and on the other sample's failed ones."
    )
    return replace(exact(NAME, LAYER, layer, len(read.rows.chosen), reading=reading), sample=name)


def _sample(case: Case, read: _Read, name: str, other: str, fitted: Fitted, *, passing: Estimate) -> Iterator[Evidence]:
    rows = read.rows.failed[name]
    n = len(rows)
    if not n:
        why = "No failed output has a wrong token in its answer."
        yield from (missing(NAME, row, reading=why, sample=name) for row in (ACCURACY, CONTROL, SELECTIVITY))
        return
    hits = fitted.hits(read.failed[name])
    learnt_count = sum(row.label in fitted.labels for row in rows)
    unseen = f"; {n - learnt_count} are tokens that were never learnt from" * (learnt_count < n)
    reading = f"Where {n} failed outputs go wrong it names the right token of {hits}{unseen}."
    accuracy = share(NAME, ACCURACY, hits, n, reading=reading, sample=name)
    yield accuracy
    control_hits, kind = _control_hits(case, read, name, other, layer=fitted.layer)
    control = _estimate(control_hits, n)
    reading = f"With a random answer for each {kind} it gets {control.value:.0%} of them (mean of {CONTROLS} draws)."
    yield measured(NAME, CONTROL, control, n, reading=reading, sample=name)
    selectivity = difference(accuracy.estimate, control)
    nameable = estimate(hits / learnt_count, clopper_pearson(hits, learnt_count)) if learnt_count else None
    reading = _judged(accuracy.estimate, selectivity, passing, nameable=nameable, base=_base(rows, read.rows))
    yield measured(NAME, SELECTIVITY, selectivity, n, reading=reading, sample=name)


def _control_hits(case: Case, read: _Read, name: str, other: str, *, layer: int) -> tuple[float, str]:
    """Mean hits on the failed items where each type of prompt has a random answer, and what a type is.

    A type is made of the tokens that tell most about the true answer: the strictest lookup to beat.
    Strength is chosen as for the true answers, on the same layer.
    """
    rows = read.rows
    known = [*rows.fitted, *rows.chosen]
    failed = [*rows.failed[other], *rows.failed[name]]
    positions = telling_positions([row.prompt for row in known], _labels(known))
    types, failed_types = (types_of([row.prompt for row in part], positions) for part in (known, failed))
    count, cut = len(rows.fitted), len(rows.failed[other])
    total = 0
    for at in range(CONTROLS):
        drawn = control_labels([*types, *failed_types], _labels(known), seed=case.seed + at)
        random_of = [[drawn[kind] for kind in part] for part in (types[:count], types[count:])]
        failed_of = [[drawn[kind] for kind in part] for part in (failed_types[:cut], failed_types[cut:])]
        groups = [(read.chosen[0], random_of[1]), (read.failed[other][0], failed_of[0])]
        fitted = best_of(fits([read.bases[layer]], random_of[0]), groups)
        total += fitted.hits((read.failed[name][0], failed_of[1]))
    return total / CONTROLS, _kind(positions)


def _kind(positions: Sequence[int]) -> str:
    if not positions:
        return "prompt"
    return f"kind of prompt by token {' and '.join(map(str, positions))} from the end"


def _estimate(hits: float, n: int) -> Estimate:
    """A mean of shares with the exact interval of the nearest count."""
    low, high = clopper_pearson(round(hits), n)
    return Estimate(hits / n, min(low, hits / n), max(high, hits / n))


def _base(failed: Sequence[_Row], rows: _Rows) -> float:
    """What naming the commonest token always would get."""
    labels = _labels(rows.fitted)
    common = max(sorted(set(labels)), key=labels.count)
    return sum(row.label == common for row in failed) / len(failed)


def _judged(
    accuracy: Estimate, selectivity: Estimate, passing: Estimate, *, nameable: Estimate | None, base: float
) -> str:
    """What the intervals allow to say. The commonest token must be beaten too; nameable is the accuracy where the right
    token was among those learnt from: only there can it turn out to be absent."""
    measures = f"{selectivity.value:+.2f} over the control task ({selectivity.low:+.2f} to {selectivity.high:+.2f})"
    if selectivity.low > 0 and accuracy.low > base:
        return f"The right token stands in the state and is not used: {measures}."
    if nameable is not None and nameable.high < passing.low and selectivity.low <= 0:
        return f"The right token is absent from what a linear classifier reads: {measures}."
    unnamed = "; too few of the right tokens were learnt from" * (nameable is None or nameable.high > accuracy.high)
    return f"Whether the state holds it cannot be told: {measures}; the commonest token gets {base:.0%}{unnamed}."
