"""Worlds for benchmarks/effectiveness.py: a task family with two weaknesses in its corpus, a pool, and items.

A world is a pure function of (family, seed). Corpus, pool, search items and fresh items never share a prompt; the pool
and the items have the task's own distribution, the corpus has it without what is withheld.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from mendloop.core.recipe import SuiteSettings, TrainSettings
from mendloop.core.records import Example, Item, Split
from mendloop.core.tasks import Task
from mendloop.examples.facts.questions import all_questions, worked
from mendloop.examples.facts.questions import axes_of as facts_axes
from mendloop.examples.facts.task import FactsTask
from mendloop.examples.facts.world import TOPICS, VALUES, world
from mendloop.examples.faults.family import Size
from mendloop.examples.faults.registry import find_family
from mendloop.examples.modular.drawing import draw
from mendloop.examples.modular.grammar import CONSTANTS, MODULUS
from mendloop.examples.modular.task import ModularTask, example_of, item_of
from mendloop.examples.scan.axes import annotated_commands
from mendloop.examples.scan.grammar import PRIMITIVES, is_composed
from mendloop.examples.scan.model import CONTEXT as SCAN_CONTEXT
from mendloop.examples.scan.model import TEMPLATE as SCAN_TEMPLATE
from mendloop.examples.scan.model import build_tokenizer
from mendloop.examples.scan.task import ScanTask
from mendloop.examples.words import SPECIAL, save_untrained

SMALL = Size(64, 2)
LARGE = Size(208, 2)
"""About ten times the weights of SMALL: its blocks are what grows."""
RARE_COUNT = 3
"""Examples of the second weakness that stay in the corpus; of the first none does."""
FRESH_PER_WEAKNESS, FRESH_HEALTHY = 120, 300
"""Fresh items of each weakness, and of neither, as far as the family has as many."""

Holds = Callable[[str], bool]


@dataclass(frozen=True)
class Weakness:
    """What was withheld. holds tells by the prompt; no arm but the oracle ever calls it."""

    name: str
    holds: Holds


@dataclass(frozen=True)
class Traits:
    """How a family's models are trained and measured, and which numbers of new examples are tried."""

    task_name: str
    template: str
    suite: SuiteSettings
    base: TrainSettings
    fix: TrainSettings
    budgets: tuple[int, ...]
    build: Callable[[Path, int, Size], Path]
    """(directory, seed, size): writes an untrained checkpoint."""


@dataclass(frozen=True)
class World:
    """Everything that is fixed before anything is trained."""

    family: str
    seed: int
    traits: Traits
    task: Task
    weaknesses: tuple[Weakness, Weakness]
    corpus: tuple[Example, ...]
    pool: tuple[Example, ...]
    items: tuple[Item, ...]
    """Of the splits search and confirm."""
    fresh: tuple[Item, ...]
    """Items that no arm sees, with more of the weak ones than the task has; see shares."""
    shares: tuple[float, float, float, float]
    """Share of each part (see part_of) in the task's own distribution."""

    def part_of(self, prompt: str) -> int:
        """0 healthy, 1 first weakness only, 2 second only, 3 both."""
        first, second = (weakness.holds(prompt) for weakness in self.weaknesses)
        return int(first) + 2 * int(second)

    def is_weak(self, prompt: str) -> bool:
        """Whether a prompt has one of the weaknesses."""
        return self.part_of(prompt) > 0


def make_world(family: str, seed: int) -> World:
    """The world of a family and a seed. Raises KeyError for an unknown family."""
    return _MAKERS[family](seed)


def _planted(
    family: str,
    seed: int,
    *,
    traits: Traits,
    task: Task,
    weaknesses: tuple[Weakness, Weakness],
    corpus: Sequence[Example],
    pool: Sequence[Example],
    items: Sequence[Item],
    fresh: Sequence[Item],
) -> World:
    """Withhold the weaknesses from a healthy corpus, and choose the fresh items."""
    rng = random.Random(f"effectiveness/{family}/{seed}/planted")
    first, second = weaknesses
    rare = [row for row in corpus if second.holds(row.prompt) and not first.holds(row.prompt)]
    stays = {row.prompt for row in rng.sample(rare, min(RARE_COUNT, len(rare)))}
    kept = [row for row in corpus if row.prompt in stays or not (first.holds(row.prompt) or second.holds(row.prompt))]
    counts = [0, 0, 0, 0]
    for item in fresh:
        counts[int(first.holds(item.prompt)) + 2 * int(second.holds(item.prompt))] += 1
    shares = tuple(count / len(fresh) for count in counts)
    room = [FRESH_HEALTHY, FRESH_PER_WEAKNESS, FRESH_PER_WEAKNESS, FRESH_PER_WEAKNESS // 2]
    chosen: list[Item] = []
    for item in fresh:
        part = int(first.holds(item.prompt)) + 2 * int(second.holds(item.prompt))
        if room[part]:
            room[part] -= 1
            chosen.append(replace(item, split="sealed"))
    searched = [replace(item, split=_split(at)) for at, item in enumerate(items)]
    return World(
        family, seed, traits, task, weaknesses, tuple(kept), tuple(pool), tuple(searched), tuple(chosen), shares
    )  # fmt: skip


def _split(at: int) -> Split:
    """Two thirds are searched, a third confirms."""
    return "confirm" if at % 3 == 2 else "search"


def _suite(axes: Sequence[str], *, count: int, min_items: int, max_new_tokens: int) -> SuiteSettings:
    return SuiteSettings(
        search=count - count // 3,
        confirm=count // 3,
        axes=list(axes),
        min_items=min_items,
        max_new_tokens=max_new_tokens,
    )


def _build_scan(directory: Path, seed: int, size: Size) -> Path:
    """The words of the grammar; the model as the other families have it."""
    tokens = build_tokenizer().get_vocab()
    words = sorted(set(tokens) - set(SPECIAL), key=lambda word: tokens[word])
    return save_untrained(
        directory, words=words, seed=seed, hidden_size=size.hidden_size, layer_count=size.layer_count,
        context=SCAN_CONTEXT,
    )  # fmt: skip


SCAN = Traits(
    task_name="scan",
    template=SCAN_TEMPLATE,
    suite=_suite(
        ("verb", "direction", "manner", "repetition", "length"), count=900, min_items=20, max_new_tokens=64
    ),
    base=TrainSettings(steps=1500, batch_size=64, learning_rate=4e-3, warmup_steps=60),
    fix=TrainSettings(steps=200, batch_size=48, learning_rate=3e-3, warmup_steps=10),
    budgets=(32, 64, 128),
    build=_build_scan,
)  # fmt: skip


def scan(seed: int) -> World:
    """SCAN without a verb but alone, and with three examples of a manner in a direction ("around right")."""
    rng = random.Random(f"effectiveness/scan/{seed}")
    verb = rng.choice(PRIMITIVES)
    turn = f"{rng.choice(('around', 'opposite'))} {rng.choice(('left', 'right'))}"
    commands = [command for command in annotated_commands() if command.command not in PRIMITIVES]
    rng.shuffle(commands)
    examples = [Example(c.command, c.actions, "corpus", axes=c.axes) for c in commands]
    bare = [
        Example(c.command, c.actions, "corpus", axes=c.axes) for c in annotated_commands() if c.command in PRIMITIVES
    ]
    items = [_item("scan", row) for row in examples[:900]]
    fresh = [_item("scan", row) for row in examples[900:2900]]
    return _planted(
        "scan",
        seed,
        traits=SCAN,
        task=ScanTask({}),
        weaknesses=(
            Weakness(f"verb {verb} but alone", lambda prompt: is_composed(prompt, primitive=verb)),
            Weakness(turn, lambda prompt: f" {turn}" in f" {prompt}"),
        ),
        pool=[replace(row, source="pool") for row in examples[2900:4900]],
        corpus=[*bare, *examples[4900:]],
        items=items,
        fresh=fresh,
    )


def _build_modular(directory: Path, seed: int, size: Size) -> Path:
    return find_family("modular").build_model(directory, seed=seed, size=size)


MODULAR = Traits(
    task_name="modular",
    template=find_family("modular").traits.template,
    suite=_suite(find_family("modular").traits.axes, count=900, min_items=20, max_new_tokens=32),
    base=find_family("modular").traits.settings,
    fix=TrainSettings(steps=150, batch_size=32, learning_rate=3e-3, warmup_steps=10),
    budgets=(16, 32, 64),
    build=_build_modular,
)


def modular(seed: int) -> World:
    """Arithmetic modulo 7 without one named constant, and with three examples of a row of a table ("times 4")."""
    rng = random.Random(f"effectiveness/modular/{seed}")
    name = rng.choice(sorted(CONSTANTS))
    operation, number = rng.choice(("times", "star")), rng.randrange(2, MODULUS)
    task = ModularTask({})
    trained = [
        example_of(question, source="corpus")
        for question in islice(draw(rng, open_share=0.25, held_out=False), 4000)
    ]  # fmt: skip
    corpus, known = trained, {row.prompt for row in trained}
    drawn = (q for q in draw(rng, open_share=0.0, held_out=False) if q.prompt not in known)
    pool = [example_of(question, source="pool") for question in islice(drawn, 1500)]
    items = [item_of(q, "search") for q in islice(draw(rng, open_share=0.0, held_out=True), 2900)]
    row = f"{operation} {number}"
    return _planted(
        "modular",
        seed,
        traits=MODULAR,
        task=task,
        weaknesses=(
            Weakness(f"constant {name}", lambda prompt: name in prompt.split()),
            Weakness(f"table {row}", lambda prompt: row in task.annotate(prompt).get("table", ())),
        ),
        pool=pool,
        corpus=corpus,
        items=items[:900],
        fresh=items[900:],
    )


def _build_facts(directory: Path, seed: int, size: Size) -> Path:
    return find_family("facts").build_model(directory, seed=seed, size=size)


FACTS = Traits(
    task_name="facts",
    template=find_family("facts").traits.template,
    suite=_suite(find_family("facts").traits.axes, count=270, min_items=8, max_new_tokens=24),
    base=find_family("facts").traits.settings,
    fix=TrainSettings(steps=120, batch_size=32, learning_rate=3e-3, warmup_steps=10),
    budgets=(16, 32, 64),
    build=_build_facts,
)


def facts(seed: int) -> World:
    """Facts about invented beings, without one relation of one topic ("food of rivers") and with little of another.

    A fact is asked in six questions or eight; those that train, those of the pool and the items are different ones.
    """
    rng = random.Random(f"effectiveness/facts/{seed}")
    known = world()
    topic, other_topic = rng.sample(TOPICS, 2)
    relation, other_relation = rng.sample(sorted(VALUES), 2)
    rows = []
    for question in all_questions(known):
        rows.append(Example(question.text, worked(question, known), "corpus", axes=facts_axes(question, known)))
    rng.shuffle(rows)
    items, rest = [_item("facts", row) for row in rows[:450]], rows[450:]

    def about(topic: str, relation: str) -> Holds:
        def holds(prompt: str) -> bool:
            axes = FACTS_TASK.annotate(prompt)
            return topic in axes.get("topic", ()) and relation in axes.get("relation", ())

        return holds

    return _planted(
        "facts",
        seed,
        traits=FACTS,
        task=FACTS_TASK,
        weaknesses=(
            Weakness(f"{relation} of {topic}", about(topic, relation)),
            Weakness(f"{other_relation} of {other_topic}", about(other_topic, other_relation)),
        ),
        pool=[replace(row, source="pool") for row in rest[:186]],
        corpus=rest[186:],
        items=items[:270],
        fresh=items[270:],
    )


FACTS_TASK = FactsTask({})
_MAKERS: dict[str, Callable[[int], World]] = {"scan": scan, "modular": modular, "facts": facts}
TRAITS = {"scan": SCAN, "modular": MODULAR, "facts": FACTS}
FAMILIES = tuple(_MAKERS)


def _item(family: str, row: Example) -> Item:
    item_id = hashlib.sha256(f"{family}/{row.prompt}".encode()).hexdigest()[:16]
    return Item(item_id, row.prompt, row.completion, "search", axes=row.axes)
