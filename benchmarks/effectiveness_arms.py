"""The arms of benchmarks/effectiveness.py: which new examples each one trains on, and replay to exact budgets.

Ours is the data engine's own code: weak slices of the evaluator's search, the controller's allocation by failures, pool
and teacher behind the funnel, the coverage selection. The controls pass the funnel too (verified answer, no evaluation
item, no prompt twice) but for its look into the corpus: who generates without a loop does not look there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from effectiveness_mixing import cycled, steer
from effectiveness_worlds import World

from mendloop.controller.domain.allocation import allocate
from mendloop.core.records import Example, Outcome, fingerprint
from mendloop.core.tasks import Conditions
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.data_generator.adapters.pool import PoolSource
from mendloop.data_generator.adapters.teacher import TaskTeacher
from mendloop.data_generator.domain.batch import Bench, Order, fill
from mendloop.data_generator.domain.collection import Limits, Source
from mendloop.data_generator.domain.funnel import Funnel, Rules
from mendloop.data_generator.domain.ledger import Ledger
from mendloop.data_generator.domain.selection import Selection, ngrams
from mendloop.evaluator.domain.slices import find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules

OURS, RANDOM, DIRECT, COPYING, ORACLE = "mendloop", "random", "directly-sampled", "failure-copying", "oracle"
ARMS = (OURS, RANDOM, DIRECT, COPYING, ORACLE)
TEACHER_COUNT = 3000
"""Examples of the teacher among which failure-copying looks for variants."""
REPLAY_SHARE = 0.7
LIMITS = Limits(candidates=20_000, survivors=4_000, fruitless=5_000)


@dataclass(frozen=True)
class Batch:
    """New examples of one arm. targets are the slices that ours found; drops the funnel's ledger."""

    examples: tuple[Example, ...]
    targets: tuple[str, ...]
    drops: dict[str, int]


@dataclass(frozen=True)
class Listed:
    """Examples in a given order as a source: the first that pass are taken."""

    name: str
    examples: Sequence[Example]
    is_curriculum: bool = True

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """The examples."""
        return iter(self.examples)


def make_batch(world: World, arm: str, *, budget: int, outcomes: Sequence[Outcome]) -> Batch:
    """The arm's examples, at most budget. outcomes are the base's on the search and confirm items."""
    ledger = Ledger()
    seed = 1_000 * world.seed + budget
    teacher = TaskTeacher(world.task, task_name=world.traits.task_name)
    if arm == OURS:
        orders = targets_of(world, outcomes, budget=budget, seed=seed)
        pool = PoolSource(world.pool, annotate=world.task.annotate)
        return _filled(world, orders, [pool, teacher], ledger=ledger, looks_into_corpus=True)
    if arm == ORACLE:
        return _oracle(world, budget=budget, seed=seed, ledger=ledger)
    rng = random.Random(f"{arm}/{world.family}/{seed}")
    if arm == RANDOM:
        source: Source = Listed("pool", rng.sample(world.pool, len(world.pool)))
    elif arm == DIRECT:
        source = teacher
    else:
        source = Listed("variants", _variants(world, outcomes, count=2 * budget, rng=rng))
    return _filled(world, [Order(arm, (), budget, seed)], [source], ledger=ledger, looks_into_corpus=False)


def targets_of(world: World, outcomes: Sequence[Outcome], *, budget: int, seed: int) -> list[Order]:
    """What ours orders: the slices that the search reports, examples in proportion to their failures.

    No verdict is asked for: every weak slice is taken for a data weakness, as it is in these worlds.
    """
    weak = find_weak_slices(outcomes, rules=SliceRules.of(world.traits.suite)).weak
    failed = [sum(part.n - part.correct for part in (found.search, found.confirm)) for found in weak]
    counts = allocate(budget, failed) if weak else []
    return [
        Order(_name(found.conditions), found.conditions, count, seed + 7 * at)
        for at, (found, count) in enumerate(zip(weak, counts, strict=True))
        if count
    ]


def _name(conditions: Conditions) -> str:
    return " ∧ ".join(f"{axis}={value}" for axis, value in conditions) or "all items"


def _filled(
    world: World, orders: Sequence[Order], sources: Sequence[Source], *, ledger: Ledger, looks_into_corpus: bool
) -> Batch:
    known = MinHashIndex()
    if looks_into_corpus:
        known.add(world.corpus)
    held_out = frozenset(fingerprint(item.prompt) for item in (*world.items, *world.fresh))
    in_corpus = frozenset(fingerprint(row.prompt) for row in world.corpus) if looks_into_corpus else frozenset()
    rules = Rules(world.task.verify, world.task.annotate, held_out, in_corpus)
    bench = Bench(
        sources=sources,
        funnel=Funnel(rules, known=known, ledger=ledger),
        selection=Selection(world.corpus),
        limits=LIMITS,
        ledger=ledger,
        open_index=MinHashIndex,
        on_progress=lambda source, count: None,
    )
    filled = [fill(order, bench=bench) for order in orders]
    examples = tuple(example for part in filled for example in part.examples)
    targets = tuple(f"{order.name} ({order.count})" for order in orders)
    return Batch(examples, targets, ledger.count_by_stage())


def _oracle(world: World, *, budget: int, seed: int, ledger: Ledger) -> Batch:
    """Half of the budget from each planted weakness, drawn at random: pool first, then the teacher."""
    rng = random.Random(f"oracle/{world.family}/{seed}")
    pool = rng.sample(world.pool, len(world.pool))
    drawn = [*pool, *_taught(world, seed=seed)]
    parts = []
    for weakness, count in zip(world.weaknesses, (budget - budget // 2, budget // 2), strict=True):
        rows = [row for row in drawn if weakness.holds(row.prompt)]
        taken = {row.prompt for part in parts for row in part.examples}
        source = Listed(weakness.name, [row for row in rows if row.prompt not in taken])
        order = Order(weakness.name, (), count, seed)
        parts.append(_filled(world, [order], [source], ledger=ledger, looks_into_corpus=True))
    examples = tuple(example for part in parts for example in part.examples)
    return Batch(examples, tuple(weakness.name for weakness in world.weaknesses), ledger.count_by_stage())


def _taught(world: World, *, seed: int) -> list[Example]:
    return list(islice(world.task.teach((), seed=seed), TEACHER_COUNT))


def _variants(world: World, outcomes: Sequence[Outcome], *, count: int, rng: random.Random) -> list[Example]:
    """As LLM2LLM (Lee et al. 2024): failures in turn, each by a variant of a training example.

    A failed item never trains. Its seed is the pool's example most like it, and the teacher's example most like that
    seed is the variant; likeness is the Jaccard index of word n-grams. No seed and no variant is used twice.
    """
    failed = [row.prompt for row in outcomes if not row.is_correct]
    rng.shuffle(failed)
    if not failed:
        return []
    held_out = {fingerprint(item.prompt) for item in (*world.items, *world.fresh)}
    seeds = _Nearest(world.pool)
    variants = _Nearest([row for row in _taught(world, seed=world.seed) if fingerprint(row.prompt) not in held_out])
    found: list[Example] = []
    for at in range(min(count, len(world.pool))):
        seed = seeds.take(failed[at % len(failed)])
        variant = variants.take(seed.prompt) if seed else None
        if variant is None:
            break
        found.append(replace(variant, source="variant"))
    return found


class _Nearest:
    """Examples by likeness; each is given once."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._grams = [frozenset(ngrams(row.prompt)) for row in examples]
        self._left = set(range(len(examples)))

    def take(self, prompt: str) -> Example | None:
        """The likest example that is left and is not the prompt itself; the earlier one where several are."""
        wanted = frozenset(ngrams(prompt))
        best, likest = None, -1.0
        for at in sorted(self._left):
            grams = self._grams[at]
            likeness = len(wanted & grams) / len(wanted | grams)
            if likeness > likest and self._examples[at].prompt != prompt:
                best, likest = at, likeness
        if best is None:
            return None
        self._left.discard(best)
        return self._examples[best]


def mixed(world: World, batch: Batch, *, token_budget: int) -> list[Example]:
    """The examples of a training: new ones and replay at fixed counts, with token_budget tokens to the last one.

    Arms with shorter new examples replay longer ones, so that steps, new examples and tokens are all equal.
    """
    rng = random.Random(f"mixed/{world.family}/{world.seed}")
    fix = world.traits.fix
    count = fix.steps * fix.batch_size
    new_count = count - round(REPLAY_SHARE * count)
    rows = [batch.examples[at % len(batch.examples)] for at in range(new_count)]
    wanted = token_budget - sum(token_count(world, row) for row in rows)
    replayed = [world.corpus[at] for at in cycled(len(world.corpus), count - new_count, rng=rng)]
    lengths = [token_count(world, row) for row in world.corpus]
    steered = steer([token_count(world, row) for row in replayed], lengths, total=wanted, rng=rng)
    replayed = [world.corpus[other] if other is not None else replayed[at] for at, other in enumerate(steered)]
    return [*rows, *replayed]


def token_count(world: World, row: Example) -> int:
    """Tokens of an example with its EOS; the models have one token a word."""
    return len(world.traits.template.format(prompt=row.prompt).split()) + len(row.completion.split()) + 1


def token_budget(world: World) -> int:
    """Tokens of every fix of a world: as many as its examples would have at the corpus's mean length."""
    fix, total = world.traits.fix, sum(token_count(world, row) for row in world.corpus)
    return round(fix.steps * fix.batch_size * total / len(world.corpus))


def composition(world: World, batch: Batch) -> tuple[float, float]:
    """Share of the batch with the first, with the second weakness; 0 for an empty one."""
    first, second = world.weaknesses
    count = max(1, len(batch.examples))
    held = [sum(weakness.holds(row.prompt) for row in batch.examples) / count for weakness in (first, second)]
    return held[0], held[1]
