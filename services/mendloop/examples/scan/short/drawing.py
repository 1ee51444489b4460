"""Owns which requests are drawn: those that evaluate and those that train never share a plain command.

Pure functions of a seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cache

from mendloop.examples.scan.axes import phrases
from mendloop.examples.scan.grammar import PRIMITIVES
from mendloop.examples.scan.short.grammar import KINDS, SECOND_NAMES, STRANGERS, Request, axes_of, plain_commands

HELD_OUT = 5
"""One plain command in so many is kept for evaluation; bare verbs never: they are where a verb's meaning is learnt."""
SINGLE_SHARE = 0.3
"""Requests of one phrase; the grammar has a hundred times as many of two."""
SECOND_NAME_SHARE = 0.4
BOTH_SHARE = 0.3
PATIENCE = 2000


def is_held_out(request: Request) -> bool:
    """Whether the plain command is kept for evaluation; the same under every seed."""
    plain = request.plain
    digest = int(hashlib.sha256(plain.encode()).hexdigest()[:8], 16)
    return plain not in PRIMITIVES and digest % HELD_OUT == 0


def draw(rng: random.Random, *, open_share: float, held_out: bool) -> Iterator[Request]:
    """Different requests, until PATIENCE draws in a row bring no new one. open_share of them explain a verb."""
    singles, pairs = _commands()
    known: set[str] = set()
    idle = 0
    while idle < PATIENCE:
        idle += 1
        plain = rng.choice(singles if rng.random() < SINGLE_SHARE else pairs)
        request = _explained(plain, rng) if rng.random() < open_share else _named(plain, rng)
        if is_held_out(request) != held_out or request.prompt in known:
            continue
        idle = 0
        known.add(request.prompt)
        yield request


def alike(request: Request) -> list[Request]:
    """Other requests of evaluation with the same values on every axis, verbs named as the request names them."""
    other = {verb: name for name, verb in SECOND_NAMES.items() if name in request.command.split()}
    asked = (" ".join(other.get(word, word) for word in plain.split()) for plain in _held_out_commands())
    found = (Request(command, request.kind) for command in asked if command != request.command)
    wanted = _values(request)
    return [one for one in found if _values(one) == wanted]


def _values(request: Request) -> dict[str, set[str]]:
    return {axis: set(values) for axis, values in axes_of(request).items()}


@cache
def _held_out_commands() -> tuple[str, ...]:
    return tuple(command for command in plain_commands() if is_held_out(Request(command)))


@cache
def _commands() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Commands of one phrase, and of two."""
    singles = tuple(command for command in plain_commands() if len(phrases(command)[0]) == 1)
    return singles, tuple(command for command in plain_commands() if command not in set(singles))


def _named(plain: str, rng: random.Random) -> Request:
    """Some verbs by their second name."""
    other = {verb: name for name, verb in SECOND_NAMES.items()}
    words = [other[w] if w in other and rng.random() < SECOND_NAME_SHARE else w for w in plain.split()]
    return Request(" ".join(words), rng.choice(KINDS))


def _explained(plain: str, rng: random.Random) -> Request:
    """Its verbs, seldom both of two, by names that the prompt explains; a second name may mean another act here."""
    verbs = list(dict.fromkeys(word for word in plain.split() if word in PRIMITIVES))
    if not verbs:
        return _named(plain, rng)
    chosen = rng.sample(verbs, len(verbs) if rng.random() < BOTH_SHARE else 1)
    names = dict(zip(chosen, rng.sample([*STRANGERS, *SECOND_NAMES], len(chosen)), strict=True))
    words = [names.get(word, word) for word in plain.split()]
    return Request(" ".join(words), rng.choice(KINDS), {name: verb for verb, name in names.items()})
