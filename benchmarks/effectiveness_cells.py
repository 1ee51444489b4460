"""Cells of benchmarks/effectiveness.py: one trained and measured model each, kept as JSON, so that nothing is lost.

The base of a world is a cell too. A cell is made again where its family's settings or VERSION changed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from effectiveness_arms import Batch, composition, make_batch, mixed, token_budget
from effectiveness_families import TRAITS, make_world
from effectiveness_scores import Cell, accuracies
from effectiveness_worlds import SMALL, World

from mendloop.core.events import stable_hash
from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Item, Outcome
from mendloop.examples.faults.family import Size
from mendloop.examples.faults.training import train
from mendloop.examples.faults.workshop import one_thread
from mendloop.models.generation import Generation
from mendloop.models.transformers_backend import load_model

VERSION = 2
"""Raised where a family's world changed."""
BATCH_ROWS = 256
LARGE_RATE = 0.5
"""Learning rate of the large model, as a share of the small one's."""
LEAST_HEALTHY, MOST_TRIES = 0.7, 3
"""A base that is not this right outside the weaknesses failed by itself: it is trained from other random weights."""


@dataclass(frozen=True)
class Wanted:
    """One cell: budget 0 is a base."""

    family: str
    seed: int
    arm: str
    budget: int
    size: Size = SMALL

    def path(self, cache: Path) -> Path:
        """Where it is kept."""
        size = "" if self.size == SMALL else f".{self.size.hidden_size}x{self.size.layer_count}"
        return cache / f"{self.family}.seed-{self.seed}.{self.arm}-{self.budget}{size}.{_settings(self)}.json"


def base_of(family: str, seed: int, *, size: Size = SMALL) -> Wanted:
    """The base of a world."""
    return Wanted(family, seed, "base", 0, size)


def _settings(wanted: Wanted) -> str:
    """Hash of what the cell depends on; a base knows no fix."""
    traits = TRAITS[wanted.family]
    settings = [traits.base] if wanted.arm == "base" else [traits.base, traits.fix, traits.suite]
    return stable_hash(str(VERSION), wanted.family, *(one.model_dump_json() for one in settings))[:10]


def is_kept(wanted: Wanted, cache: Path) -> bool:
    """Whether the cell is there."""
    return wanted.path(cache).is_file()


def make_cells(family: str, seed: int, wanted: Sequence[Wanted], cache: Path) -> None:
    """Train and measure what is missing of one world."""
    with one_thread():
        world = make_world(family, seed)
        for cell in wanted:
            if not is_kept(cell, cache):
                document = _base(world, cell, cache) if cell.arm == "base" else _fixed(world, cell, cache)
                _write(cell.path(cache), document)


def read_cell(wanted: Wanted, cache: Path) -> Cell:
    """The figures of a cell, with those of its base."""
    base = json.loads(base_of(wanted.family, wanted.seed).path(cache).read_text())
    own = json.loads(wanted.path(cache).read_text())
    parts = [tuple(map(tuple, document["parts"])) for document in (base, own)]
    before, after = (accuracies(rows, own["shares"]) for rows in parts)
    return Cell(wanted.family, wanted.seed, wanted.budget, wanted.arm, before, after, own)


def _base(world: World, wanted: Wanted, cache: Path) -> dict[str, Any]:
    """The world's base: trained on its corpus, measured on search and fresh items."""
    with TemporaryDirectory(dir=cache, prefix=".partial-") as scratch:
        for attempt in range(MOST_TRIES):
            start = world.traits.build(Path(scratch) / f"start-{attempt}", world.seed + 1_000 * attempt, wanted.size)
            directory = Path(scratch) / f"trained-{attempt}"
            trained = train(
                start,
                directory,
                examples=world.corpus,
                template=world.traits.template,
                settings=_base_settings(world, wanted.size),
                seed=world.seed,
            )
            found = _measured(world, directory, searches=wanted.size == SMALL)
            healthy_right, healthy_n = found["parts"][0]
            if healthy_right >= LEAST_HEALTHY * healthy_n:
                break
        place = _model_dir(wanted, cache)
        shutil.rmtree(place, ignore_errors=True)  # of a run that was stopped between the model and its figures
        os.replace(directory, place)
    return {**found, **_told(world), "tokens": trained.token_count, "attempt": attempt, "train_s": trained.wall_s}


def _base_settings(world: World, size: Size) -> TrainSettings:
    """A large model learns at a lower rate."""
    base = world.traits.base
    return base if size == SMALL else base.model_copy(update={"learning_rate": LARGE_RATE * base.learning_rate})


def _fixed(world: World, wanted: Wanted, cache: Path) -> dict[str, Any]:
    """The base after the arm's fix. An arm without any example leaves the base as it is."""
    base_cell = base_of(world.family, world.seed)
    base = json.loads(base_cell.path(cache).read_text())
    batch = make_batch(world, wanted.arm, budget=wanted.budget, outcomes=_outcomes(world, base["searched"]))
    told = {**_told(world), **_described(world, batch)}
    if not batch.examples:
        return {**told, "parts": base["parts"], "tokens": 0, "parameters": base["parameters"]}
    budget = token_budget(world)
    with TemporaryDirectory() as scratch:
        trained = train(
            _model_dir(base_cell, cache),
            Path(scratch) / "model",
            examples=mixed(world, batch, token_budget=budget),
            template=world.traits.template,
            settings=world.traits.fix,
            seed=world.seed,
        )
        if trained.token_count != budget or trained.step_count != world.traits.fix.steps:
            raise AssertionError(f"{wanted} took {trained.token_count} tokens of a budget of exactly {budget}")
        found = _measured(world, Path(scratch) / "model", searches=False)
    return {**found, **told, "tokens": trained.token_count, "train_s": trained.wall_s}


def _described(world: World, batch: Batch) -> dict[str, Any]:
    return {
        "examples": len(batch.examples),
        "targets": list(batch.targets),
        "drops": batch.drops,
        "weak_shares": list(composition(world, batch)),
    }


def _told(world: World) -> dict[str, Any]:
    return {"shares": list(world.shares), "weaknesses": [one.name for one in world.weaknesses]}


def _model_dir(wanted: Wanted, cache: Path) -> Path:
    return wanted.path(cache).with_suffix(".model")


def _measured(world: World, directory: Path, *, searches: bool) -> dict[str, Any]:
    """Right answers and items of each part of the fresh items; scores of the searched items where asked for."""
    model = load_model(directory, batch_rows=BATCH_ROWS)
    limit = world.traits.suite.max_new_tokens

    def answered(items: Sequence[Item]) -> list[tuple[Item, Generation]]:
        prompts = [world.traits.template.format(prompt=item.prompt) for item in items]
        outputs = model.generate(prompts, max_new_tokens=limit, stop=world.task.stop_strings)
        return list(zip(items, outputs, strict=True))

    parts = [[0, 0] for _ in world.shares]
    for item, output in answered(world.fresh):
        part = parts[world.part_of(item.prompt)]
        part[0], part[1] = part[0] + (world.task.score(item, output.text).value >= 1), part[1] + 1
    searched = answered(world.items) if searches else []
    return {
        "parts": parts,
        "searched": {item.item_id: world.task.score(item, output.text).value for item, output in searched},
        "search_tokens": sum(output.prompt_token_count + output.output_token_count for _, output in searched),
        "parameters": model.parameter_count,
    }


def _outcomes(world: World, scores: dict[str, float]) -> list[Outcome]:
    """The base's outcomes on the items where weak slices are searched; what the search does not read is empty."""
    return [
        Outcome(row.item_id, row.split, row.prompt, "", row.target, scores[row.item_id], 0, 0, "unknown", "", -math.inf,
                0, axes=row.axes)
        for row in world.items
    ]  # fmt: skip


def _write(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_suffix(f".part-{os.getpid()}")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(partial, path)
