"""The task families of benchmarks/effectiveness.py: what each withholds, and from where its data come."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from effectiveness_worlds import Holds, Traits, Weakness, World, plant, suite_of

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
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
from mendloop.examples.scan.short.drawing import draw as draw_requests
from mendloop.examples.scan.short.grammar import SECOND_NAMES
from mendloop.examples.scan.short.task import ShortScanTask
from mendloop.examples.scan.short.task import example_of as short_example
from mendloop.examples.scan.short.task import item_of as short_item
from mendloop.examples.scan.task import ScanTask
from mendloop.examples.words import SPECIAL, save_untrained


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
    suite=suite_of(
        ("verb", "direction", "manner", "repetition", "length"),
        search=600,
        confirm=300,
        min_items=20,
        max_new_tokens=64,
    ),
    base=TrainSettings(steps=1500, batch_size=64, learning_rate=4e-3, warmup_steps=60),
    fix=TrainSettings(steps=200, batch_size=48, learning_rate=1e-3, warmup_steps=10),
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
    return plant(
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


def _traits(
    family: str, *, fix: TrainSettings, budgets: tuple[int, ...], search: int, confirm: int, min_items: int
) -> Traits:
    """Of a family in which faults can be planted: its own template, axes, base training and model."""
    own = find_family(family).traits

    def build(directory: Path, seed: int, size: Size) -> Path:
        return find_family(family).build_model(directory, seed=seed, size=size)

    suite = suite_of(own.axes, search=search, confirm=confirm, min_items=min_items, max_new_tokens=own.max_new_tokens)
    return Traits(own.task_name, own.template, suite, own.settings, fix, budgets, build)


SHORT = _traits(
    "scan",
    fix=TrainSettings(steps=100, batch_size=32, learning_rate=1e-3, warmup_steps=10),
    budgets=(32, 64, 128),
    search=600,
    confirm=300,
    min_items=20,
)
MODULAR = _traits(
    "modular",
    fix=TrainSettings(steps=100, batch_size=32, learning_rate=3e-3, warmup_steps=10),
    budgets=(32, 64),
    search=600,
    confirm=300,
    min_items=20,
)
FACTS = _traits(
    "facts",
    fix=TrainSettings(steps=100, batch_size=32, learning_rate=3e-3, warmup_steps=10),
    budgets=(32, 64),
    search=150,
    confirm=150,
    min_items=5,
)


def short(seed: int) -> World:
    """Short SCAN commands without one second name of a verb, and with three examples of a turn ("opposite left")."""
    rng = random.Random(f"effectiveness/scan-short/{seed}")
    name, turn = rng.choice(sorted(SECOND_NAMES)), rng.choice(("opposite left", "opposite right"))
    task = ShortScanTask({})
    trained = list(islice(draw_requests(rng, open_share=0.3, held_out=False), 4000))
    known = {request.prompt for request in trained}
    others = (one for one in draw_requests(rng, open_share=0.0, held_out=False) if one.prompt not in known)
    items = [short_item(one, "search") for one in islice(draw_requests(rng, open_share=0.0, held_out=True), 2400)]
    return plant(
        "scan-short",
        seed,
        traits=SHORT,
        task=task,
        weaknesses=(
            Weakness(f"verb {name}", lambda prompt: name in prompt.split()),
            Weakness(turn, lambda prompt: turn in prompt),
        ),
        pool=[short_example(request, source="pool") for request in islice(others, 1500)],
        corpus=[short_example(request, source="corpus") for request in trained],
        items=items[:900],
        fresh=items[900:],
    )


def modular(seed: int) -> World:
    """Arithmetic modulo 7 without one named constant, and with three examples of a row of a table ("times 4")."""
    rng = random.Random(f"effectiveness/modular/{seed}")
    name = rng.choice(sorted(CONSTANTS))
    row = f"{rng.choice(('times', 'star'))} {rng.randrange(2, MODULUS)}"
    task = ModularTask({})
    trained = list(islice(draw(rng, open_share=0.25, held_out=False), 4000))
    known = {question.prompt for question in trained}
    others = (one for one in draw(rng, open_share=0.0, held_out=False) if one.prompt not in known)
    items = [item_of(question, "search") for question in islice(draw(rng, open_share=0.0, held_out=True), 2400)]
    return plant(
        "modular",
        seed,
        traits=MODULAR,
        task=task,
        weaknesses=(
            Weakness(f"constant {name}", lambda prompt: name in prompt.split()),
            Weakness(f"table {row}", lambda prompt: row in task.annotate(prompt).get("table", ())),
        ),
        pool=[example_of(question, source="pool") for question in islice(others, 1500)],
        corpus=[example_of(question, source="corpus") for question in trained],
        items=items[:900],
        fresh=items[900:],
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
    items, rest = [_item("facts", row) for row in rows[:500]], rows[500:]

    def about(topic: str, relation: str) -> Holds:
        def holds(prompt: str) -> bool:
            axes = FACTS_TASK.annotate(prompt)
            return topic in axes.get("topic", ()) and relation in axes.get("relation", ())

        return holds

    return plant(
        "facts",
        seed,
        traits=FACTS,
        task=FACTS_TASK,
        weaknesses=(
            Weakness(f"{relation} of {topic}", about(topic, relation)),
            Weakness(f"{other_relation} of {other_topic}", about(other_topic, other_relation)),
        ),
        pool=[replace(row, source="pool") for row in rest[:150]],
        corpus=rest[150:],
        items=items[:300],
        fresh=items[300:],
    )


FACTS_TASK = FactsTask({})
_MAKERS: dict[str, Callable[[int], World]] = {"scan-short": short, "modular": modular, "facts": facts, "scan": scan}
TRAITS = {"scan-short": SHORT, "modular": MODULAR, "facts": FACTS, "scan": SCAN}
PUBLISHED = ("scan-short", "modular", "facts")
"""scan, the whole grammar, takes three times as long as these together; its settings have not been tried yet."""


def make_world(family: str, seed: int) -> World:
    """The world of a family and a seed. Raises KeyError for an unknown family."""
    return _MAKERS[family](seed)


def _item(family: str, row: Example) -> Item:
    item_id = hashlib.sha256(f"{family}/{row.prompt}".encode()).hexdigest()[:16]
    return Item(item_id, row.prompt, row.completion, "search", axes=row.axes)
