"""Activation patching: which layer and place of a passing run makes a failing one right (Meng et al. 2022, Wang et al.
2022). Dear: it is for cases that cheap probes leave open, and for people who ask where the fault sits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mendloop.core.records import Outcome
from mendloop.core.tasks import matches
from mendloop.diagnostician.adapters.looking import Look, Looking
from mendloop.diagnostician.domain.answers import Answered, answered, right_text
from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.contrast import DIFFERENT, ROLES, Pair, contrasts, frame_of, most_alike, pair_of
from mendloop.diagnostician.domain.evidence import Attachment, Evidence, exact, measured, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import bootstrap_ratio
from mendloop.models.encoding import encode_examples, eos_id
from mendloop.models.inspection import Cell, Inside, evenly, recovery, token_texts

NAME = "patching"
RESTORED = "restored_share"
MISMATCHED = "mismatched_restored_share"
RECOVERY = "recovery"
LAYER = "best_layer"
MOST_LAYERS = 8
BUDGET_S = 4.0
FEWEST = 3
"""Fewer pairs of a sample show nothing."""
MOST_TOKENS = 32
"""Tokens of the example pair that is shown token by token."""

Place = tuple[int, str]
"""A layer and a role."""


@dataclass(frozen=True, slots=True)
class _Traced:
    """A pair with what each place's patch did: the share recovered, and whether the right token became likeliest.

    other is the same failed prompt with a passing one at random: the control.
    """

    pair: Pair
    other: Pair
    recovered: Mapping[Place, float]
    restored: Mapping[Place, bool]


@dataclass(frozen=True, slots=True)
class _Search:
    """The traced pairs of each sample, and how many failed items gave none, by reason."""

    traced: Mapping[str, Sequence[_Traced]]
    dropped: Mapping[str, int]
    layers: tuple[int, ...]


class Patching:
    """One batch of runs for each pair; it stops at its time budget and says how many pairs it reached."""

    name = NAME
    cost_class = CostClass.SEARCHED

    def __init__(
        self, *, look: Look | None = None, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look or Looking()
        self._budget_s = budget_s
        self._clock = clock

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failing prompts restored, and logit difference recovered, at the place that the other
        sample names best; over both that place's layer, with the heat map."""
        if not any(sample.failed for sample in case.samples):
            return _missing(case, "No failed item is at hand.")
        inside = self._look(case)
        if inside is None:
            return _missing(case, "The checkpoint's weights are not at hand, so nothing can be patched.")
        search = self._search(case, inside)
        if min(map(len, search.traced.values())) < FEWEST:
            counts = " and ".join(str(len(rows)) for rows in search.traced.values())
            why = f"{counts} failed prompts have a passing prompt to patch from{_reasons(search)}; {FEWEST} are needed."
            return _missing(case, why)
        return tuple(_rows(inside, search))

    def _search(self, case: Case, inside: Inside) -> _Search:
        deadline = self._clock() + self._budget_s
        layers = evenly(inside.layer_count, most=MOST_LAYERS)
        traced: dict[str, list[_Traced]] = {sample.name: [] for sample in case.samples}
        dropped: dict[str, int] = {}
        for name, pairs in _pairs(case, inside):
            result: _Traced | str = "not reached in time"
            if self._clock() < deadline:
                result = _trace(inside, *pairs, layers=layers) if pairs else "without a like passing prompt"
            if isinstance(result, str):
                dropped[result] = dropped.get(result, 0) + 1
            else:
                traced[name].append(result)
        return _Search(traced, dropped, layers)


def _missing(case: Case, why: str) -> tuple[Evidence, ...]:
    rows = tuple(missing(NAME, RESTORED, reading=why, sample=sample.name) for sample in case.samples)
    return (*rows, missing(NAME, LAYER, reading=why))


def _reasons(search: _Search) -> str:
    if not search.dropped:
        return ""
    return f" ({', '.join(f'{count} {reason}' for reason, count in sorted(search.dropped.items()))})"


def _pairs(case: Case, inside: Inside) -> Iterator[tuple[str, tuple[Pair, Pair] | None]]:
    """Failed prompts of both samples in turn, so that a time limit cuts both alike; each with its most similar passing
    prompt, and with one at random."""
    failed = {sample.name: _failed(case, inside, sample) for sample in case.samples}
    passing = {sample.name: _passing(case, inside, sample) for sample in case.samples}
    everyone = [row.prompt for group in (*failed.values(), *passing.values()) for row in group]
    frame, eos, rng = frame_of(everyone), eos_id(inside.tokenizer), random.Random(case.seed)
    for at in range(max(map(len, failed.values()))):
        for name, rows in failed.items():
            if at >= len(rows):
                continue
            fitting = contrasts(rows[at], passing[name], eos=eos)
            partners = (most_alike(rows[at], fitting), rng.choice(fitting)) if fitting else ()
            alike = [pair_of(rows[at], partner, frame=frame, eos=eos) for partner in partners]
            yield name, (alike[0], alike[1]) if alike else None


def _failed(case: Case, inside: Inside, sample: Sample) -> list[Answered]:
    prompts = [case.template(row.item.prompt) for row in sample.failed]
    right = encode_examples(inside.tokenizer, prompts, [right_text(case.task, row.item) for row in sample.failed])
    said = encode_examples(inside.tokenizer, prompts, [row.outcome.output for row in sample.failed])
    return answered(right, said)


def _passing(case: Case, inside: Inside, sample: Sample) -> list[Answered]:
    """Passing items of the half outside the slice, with what was said."""
    rows: list[Outcome] = [
        row
        for row in sample.outcomes
        if row.is_correct and not (case.conditions and matches(row.axes, case.conditions))
    ]
    encoded = encode_examples(
        inside.tokenizer, [case.template(row.prompt) for row in rows], [row.output for row in rows]
    )
    return answered(encoded, encoded)


def _trace(inside: Inside, pair: Pair, other: Pair, *, layers: Sequence[int]) -> _Traced | str:
    """What each place's patch does, or why the pair shows nothing: it must contrast in this model, now."""
    places = [(layer, role) for layer in layers for role in pair.roles]
    cells = [Cell(layer, pair.roles[role]) for layer, role in places]
    patched = inside.patch(pair.clean, pair.corrupted, cells=cells, tokens=(pair.clean_next, pair.wrong))
    if patched.clean.best != pair.clean_next or patched.corrupted.best != pair.wrong:
        return "whose stored outputs the model does not repeat"
    recovered = dict(zip(places, recovery(patched), strict=True))
    return _Traced(
        pair,
        other,
        recovered,
        {place: cell.best == pair.right for place, cell in zip(places, patched.cells, strict=True)},
    )


def _rows(inside: Inside, search: _Search) -> Iterator[Evidence]:
    names = list(search.traced)
    for name, other in zip(names, reversed(names), strict=True):
        place = _best(search.traced[other], inside.layer_count)
        rows = search.traced[name]
        restored = sum(row.restored.get(place, False) for row in rows)
        reading = (
            f"With the states of a like passing prompt after layer {place[0]} of {inside.layer_count} at the "
            f"{place[1]}, which is best on sample {other}, the right token becomes the likeliest in {restored} of "
            f"{len(rows)} failing prompts{_reasons(search)}."
        )
        yield share(NAME, RESTORED, restored, len(rows), reading=reading, sample=name)
        yield _control(inside, name, rows, place)
        value = bootstrap_ratio([row.recovered.get(place, 0.0) for row in rows], [1] * len(rows), seed=len(rows))
        reading = f"There {value.value:.2f} of the logit difference between both prompts' next tokens comes back."
        yield measured(NAME, RECOVERY, value, len(rows), reading=reading, sample=name)
    yield _layer(inside, search)


def _control(inside: Inside, name: str, rows: Sequence[_Traced], place: Place) -> Evidence:
    """The same place patched from a passing prompt at random: what does not come from the likeness of the pair."""
    layer, role = place
    restored = 0
    for pair in (row.other for row in rows):
        if role in pair.roles:
            cells = [Cell(layer, pair.roles[role])]
            [patched] = inside.patch(pair.clean, pair.corrupted, cells=cells, tokens=()).cells
            restored += patched.best == pair.right
    reading = f"From a passing prompt at random the same place restores {restored} of {len(rows)}."
    return share(NAME, MISMATCHED, restored, len(rows), reading=reading, sample=name)


def _layer(inside: Inside, search: _Search) -> Evidence:
    rows = [row for group in search.traced.values() for row in group]
    layer, role = _best(rows, inside.layer_count)
    restored = sum(row.restored.get((layer, role), False) for row in rows)
    different = sum(row.pair.differing_count for row in rows) / len(rows)
    same = sum(row.pair.right == row.pair.clean_next for row in rows)
    reading = (
        f"Of the places that do not carry the whole passing run over, layer {layer} of {inside.layer_count} at the "
        f"{role} restores most: {restored} of {len(rows)}. Pairs differ in {different:.1f} tokens; in {same} the "
        "passing prompt's own next token is the right one."
    )
    attachment = Attachment("heat_map", "heat_map", _heat_map(inside, search, rows))
    return replace(exact(NAME, LAYER, layer, len(rows), reading=reading), attachment=attachment)


def _best(rows: Sequence[_Traced], layer_count: int) -> Place:
    """The place that restores most prompts, then recovers most.

    Two kinds of place show nothing, because they carry the whole passing run over: the differing words before any
    layer, and the last layer.
    """
    places = {place for row in rows for place in row.recovered if place[0] < layer_count and place != (0, DIFFERENT)}
    return max(
        sorted(places),
        key=lambda place: (
            sum(row.restored.get(place, False) for row in rows),
            sum(row.recovered.get(place, 0.0) for row in rows),
        ),
    )


def _heat_map(inside: Inside, search: _Search, rows: Sequence[_Traced]) -> dict[str, object]:
    """Mean recovery by layer and role (null where no pair has the role), and one pair token by token."""
    roles = [role for role in ROLES if any(role in row.pair.roles for row in rows)]

    def mean(layer: int, role: str) -> float | None:
        values = [row.recovered[layer, role] for row in rows if (layer, role) in row.recovered]
        return round(float(np.mean(values)), 4) if values else None

    return {
        "layers": list(search.layers),
        "layer_count": inside.layer_count,
        "positions": roles,
        "values": [[mean(layer, role) for role in roles] for layer in search.layers],
        "pairs": len(rows),
        "example": _example(inside, min(rows, key=lambda row: row.pair.differing_count).pair, search.layers),
    }


def _example(inside: Inside, pair: Pair, layers: Sequence[int]) -> dict[str, object]:
    depth = min(len(pair.clean), len(pair.corrupted), MOST_TOKENS)
    positions = range(-depth, 0)
    cells = [Cell(layer, (at,)) for layer in layers for at in positions]
    patched = inside.patch(pair.clean, pair.corrupted, cells=cells, tokens=(pair.clean_next, pair.wrong))
    values = [round(value, 4) for value in recovery(patched)]
    clean, corrupted = (token_texts(inside.tokenizer, ids[-depth:]) for ids in (pair.clean, pair.corrupted))
    right, wrong, clean_next = token_texts(inside.tokenizer, (pair.right, pair.wrong, pair.clean_next))
    return {
        "layers": list(layers),
        "positions": [a if a == b else f"{b} ← {a}" for a, b in zip(clean, corrupted, strict=True)],
        "values": [values[at : at + depth] for at in range(0, len(values), depth)],
        "clean_next": clean_next,
        "right": right,
        "wrong": wrong,
    }
