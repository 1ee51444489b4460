"""Owns which questions are drawn: those that evaluate and those that train never share an expression.

Pure functions of a seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from mendloop.examples.modular.grammar import CONSTANTS, MODULUS, NUMBERS, OPENINGS, OPERATIONS, VARIABLES, Question

HELD_OUT = 5
"""One expression in so many is kept for evaluation, in whatever wording."""
DEPTHS = (1, 2, 2, 2)
"""With up to three steps .87 were right after 320 x 48 examples, with up to two .99: where to look is what is hard."""
NAMED_SHARE = 0.35
"""Questions with a name among their terms."""
PATIENCE = 2000


def is_held_out(question: Question) -> bool:
    """Whether the expression is kept for evaluation; the same under every seed."""
    return int(hashlib.sha256(question.expression.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


def draw(rng: random.Random, *, open_share: float, held_out: bool) -> Iterator[Question]:
    """Different questions, until PATIENCE draws in a row bring no new one. open_share of them state what they need."""
    known: set[str] = set()
    idle = 0
    while idle < PATIENCE:
        question = _opened(rng) if rng.random() < open_share else _closed(rng)
        idle += 1
        if is_held_out(question) != held_out or question.prompt in known:
            continue
        idle = 0
        known.add(question.prompt)
        yield question


def like(question: Question, rng: random.Random) -> Question:
    """A question of the same form with other terms: names stay, numbers change."""
    terms = tuple(rng.choice(NUMBERS) if term in NUMBERS else term for term in question.terms)
    return Question(terms, question.operations, question.wording, question.given)


def _closed(rng: random.Random) -> Question:
    depth = rng.choice(DEPTHS)
    terms = [rng.choice(NUMBERS) for _ in range(depth + 1)]
    if rng.random() < NAMED_SHARE:
        terms[rng.randrange(depth + 1)] = rng.choice(list(CONSTANTS))
    return _asked(terms, rng)


def _opened(rng: random.Random) -> Question:
    """One name, its value before the question; a constant may have another value here than elsewhere."""
    name = rng.choice([*CONSTANTS, *VARIABLES])
    depth = rng.choice(DEPTHS)
    terms = [rng.choice(NUMBERS) for _ in range(depth + 1)]
    terms[rng.randrange(depth + 1)] = name
    asked = _asked(terms, rng)
    return Question(asked.terms, asked.operations, asked.wording, {name: rng.randrange(MODULUS)})


def _asked(terms: list[str], rng: random.Random) -> Question:
    operations = tuple(rng.choice(list(OPERATIONS)) for _ in terms[1:])
    return Question(tuple(terms), operations, rng.choice(list(OPENINGS)))
