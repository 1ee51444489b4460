"""Owns which commands are drawn: evaluation items with every axis value in them, teacher examples that are spread.

Pure functions of commands and a seed.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mendloop.core.errors import InvalidRecipe
from mendloop.examples.scan.axes import Command, phrases
from mendloop.examples.scan.grammar import PRIMITIVES

FLOOR = 20
"""Fewest items of each axis value in a split, as far as a third of the value's commands goes."""

CHOICES = 128
"""Commands among which the next one of a spread order is looked for."""

Value = tuple[str, str]


def draw_items(commands: Sequence[Command], *, counts: Mapping[str, int], seed: int) -> dict[str, list[Command]]:
    """Disjoint random commands for each split, as many as counts says.

    Axis values have their natural share, but rare ones at least FLOOR items a split. At most a third of a value's
    commands is used up for that: what is an item is no training example, and with all single-phrase commands withheld
    the model could not learn them. Bare primitives are never items: they are where a verb's meaning is learnt.
    Raises InvalidRecipe where there are not enough commands.
    """
    # an order by hash is the same for a whole domain and for a part of it: their items overlap as much as they can
    shuffled = sorted(
        (command for command in commands if command.command not in PRIMITIVES),
        key=lambda command: hashlib.sha256(f"{seed}/{command.command}".encode()).digest(),
    )
    wanted = sum(counts.values())
    if wanted > len(shuffled):
        raise InvalidRecipe(
            f"the suite asks for {wanted} items, the domain has {len(shuffled)} commands; "
            "lower search, confirm or sealed"
        )
    totals = Counter(value for command in shuffled for value in _values(command))
    drawn: dict[str, list[Command]] = {}
    left = shuffled
    for split, count in counts.items():
        floors = {value: min(FLOOR, total * count // (3 * wanted)) for value, total in totals.items()}
        drawn[split] = _with_floors(left, count=count, floors=floors)
        taken = {command.command for command in drawn[split]}
        left = [command for command in left if command.command not in taken]
    return drawn


def spread(commands: Sequence[Command], *, seed: int) -> Iterator[Command]:
    """Every command once, in a random order of which each beginning covers the phrases as evenly as possible.

    Each next command is the one whose phrases, in their places around the conjunction, were given least often so
    far, looked for among the next CHOICES of a random order.
    """
    waiting = [(command, _features(command)) for command in commands]
    random.Random(f"teach/{seed}").shuffle(waiting)
    given: Counter[str] = Counter()
    while waiting:
        costs = [sum(given[feature] for feature in features) for _, features in waiting[:CHOICES]]
        command, features = waiting.pop(costs.index(min(costs)))
        given.update(features)
        yield command


def _with_floors(commands: Sequence[Command], *, count: int, floors: Mapping[Value, int]) -> list[Command]:
    """The first commands that the floors need, rarest value first, then the first of the others."""
    chosen: dict[str, Command] = {}
    have: Counter[Value] = Counter()
    needed = [value for value, floor in sorted(floors.items(), key=lambda entry: (entry[1], entry[0])) if floor]
    rare = [value for value in needed if sum(value in _values(c) for c in commands[:count]) < floors[value]]
    for value in rare:
        for command in commands:
            if have[value] >= floors[value] or len(chosen) >= count:
                break
            if value in _values(command) and command.command not in chosen:
                chosen[command.command] = command
                have.update(_values(command))
    for command in commands:
        if len(chosen) >= count:
            break
        chosen.setdefault(command.command, command)
    return list(chosen.values())


def _values(command: Command) -> list[Value]:
    return [(axis, value) for axis, values in command.axes.items() for value in values]


def _features(command: Command) -> list[str]:
    parts, conjunction = phrases(command.command)
    return [f"{place} {conjunction} {part}" for place, part in enumerate(parts)]
