"""Which outcomes of two evaluations belong together. Knows outcomes; knows no statistics.

An item is paired by its id; its repeats are kept together. Whatever has no partner is counted with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mendloop.core.records import Axes, Outcome

GROUP_AXIS = "group"
"""Axis that names the group of an item: items of one group (questions on one text) do not err independently."""
TASK_AXIS = "task"
NO_ANSWER = "none"
"""Extraction of an output in which no rule of the scorer found an answer."""

ONLY_IN_FIRST = "only in the first set"
ONLY_IN_SECOND = "only in the second set"
OTHER_TARGET = "other target in the second set"
OTHER_PROMPT = "other prompt in the second set"
OTHER_REPEATS = "other number of repeats in the second set"


@dataclass(frozen=True, slots=True)
class Side:
    """What one set of outcomes says about an item: the score of each repeat, and the output of the first."""

    scores: tuple[float, ...]
    output: str
    is_answered: bool = True
    """Whether the scorer found an answer in the shown output."""

    @property
    def mean(self) -> float:
        """Mean score over the repeats."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True, slots=True)
class Pair:
    """An item that both sets measured."""

    item_id: str
    prompt: str
    target: str
    first: Side
    second: Side
    axes: Axes

    @property
    def difference(self) -> float:
        """Second minus first, means over repeats: -1 to 1."""
        return self.second.mean - self.first.mean

    @property
    def is_binary(self) -> bool:
        """Whether both sides are one answer that is right or wrong."""
        return all(len(side.scores) == 1 and side.scores[0] in (0.0, 1.0) for side in (self.first, self.second))

    @property
    def group(self) -> str:
        """The item's group; an item without one is its own."""
        return "/".join(self.axes.get(GROUP_AXIS, ())) or f"item:{self.item_id}"


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs in order of their ids, the ids without a partner by reason, and what differs in spite of a pairing."""

    pairs: tuple[Pair, ...]
    unpaired: Mapping[str, tuple[str, ...]]
    remarks: Mapping[str, int] = field(default_factory=dict)

    @property
    def unpaired_count(self) -> int:
        """Items that no comparison uses."""
        return sum(len(ids) for ids in self.unpaired.values())


def pair_outcomes(first: Sequence[Outcome], second: Sequence[Outcome]) -> Pairing:
    """Pair two sets by item id. An item whose target differs is another question and is not paired.

    Raises ValueError where one set has the same item and repeat twice.
    """
    before, after = _by_item(first, name="first"), _by_item(second, name="second")
    unpaired: dict[str, list[str]] = defaultdict(list)
    remarks: Counter[str] = Counter()
    pairs = []
    for item_id in sorted(before.keys() | after.keys()):
        if item_id not in after or item_id not in before:
            unpaired[ONLY_IN_FIRST if item_id in before else ONLY_IN_SECOND].append(item_id)
            continue
        rows, others = before[item_id], after[item_id]
        if rows[0].target != others[0].target:
            unpaired[OTHER_TARGET].append(item_id)
            continue
        remarks[OTHER_PROMPT] += rows[0].prompt != others[0].prompt
        remarks[OTHER_REPEATS] += len(rows) != len(others)
        axes = {**others[0].axes, **rows[0].axes}
        pairs.append(Pair(item_id, rows[0].prompt, rows[0].target, _side(rows), _side(others), axes))
    return Pairing(tuple(pairs), {reason: tuple(ids) for reason, ids in unpaired.items()}, dict(+remarks))


def slices_of(pair: Pair, *, axis: str) -> list[str]:
    """Values of the item on an axis; "a+b" joins two axes to their conjunctions. Empty where a part has no value."""
    names = [""]
    for part in axis.split("+"):
        names = [f"{name} & {value}" if name else value for name in names for value in pair.axes.get(part, ())]
    return names


def _by_item(outcomes: Sequence[Outcome], *, name: str) -> dict[str, list[Outcome]]:
    rows: dict[str, list[Outcome]] = defaultdict(list)
    seen: set[tuple[str, int]] = set()
    for outcome in outcomes:
        key = (outcome.item_id, outcome.repeat_index)
        if key in seen:
            raise ValueError(
                f"the {name} set has item {key[0]!r}, repeat {key[1]} twice; compare one evaluation a side"
            )
        seen.add(key)
        rows[outcome.item_id].append(outcome)
    return rows


def _side(rows: Sequence[Outcome]) -> Side:
    ordered = sorted(rows, key=lambda row: row.repeat_index)
    shown = ordered[0]
    return Side(tuple(row.score for row in ordered), shown.output, shown.extraction != NO_ANSWER)
