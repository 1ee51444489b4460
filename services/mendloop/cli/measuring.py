"""Measures a checkpoint directory without services, on the evaluator's own path: shards, scoring, weak slices.

Knows stores and suites; knows neither options nor how results are shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.contracts import EVALUATOR
from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.stats import Interval, clopper_pearson
from mendloop.core.tasks import find_task
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import slice_name
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.domain.draws import PassAtOne, first_draws, pass_at_one
from mendloop.evaluator.domain.scoring import Cost, tally, total_cost
from mendloop.evaluator.domain.sharding import evaluation_id
from mendloop.evaluator.domain.slices import SliceSearch, find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules
from mendloop.evaluator.measurement import Measurement
from mendloop.evaluator.ports import MeteredModel
from mendloop.judging.belief import Document, detectors_of, judged
from mendloop.models.checkpoint import directory_sha
from mendloop.submission.reading import AxisRead, axes_read, with_read_axes
from mendloop.submission.submit import check_axes, check_template, draw_items

_EMPTY = Artifact("", "0" * 64, 0, "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Measured:
    """What an evaluation found. outcomes holds every draw of every item."""

    evaluation_id: str
    outcomes: list[Outcome]
    correct: int
    n: int
    interval: Interval
    pass_at_1: PassAtOne
    search: SliceSearch
    cost: Cost
    axes_read: tuple[AxisRead, ...] = ()
    """How far axes that a language model read can be believed."""
    judged: tuple[Document, ...] = ()
    """How far the suite's detectors can be believed, and what their verdicts are worth."""

    def facts(self) -> dict[str, object]:
        """The result as JSON values."""
        return {
            "evaluation_id": self.evaluation_id,
            "accuracy": {"correct": self.correct, "n": self.n, "low": self.interval.low, "high": self.interval.high},
            "pass_at_1": asdict(self.pass_at_1),
            "weak_slices": [
                {
                    "slice": slice_name(found.conditions),
                    "search": found.search._asdict(),
                    "confirm": found.confirm._asdict(),
                    "p_value": found.p_value,
                    "q_value": found.q_value,
                }
                for found in self.search.weak
            ],
            "stop_reasons": dict(Counter(row.stop_reason for row in self.outcomes)),
            "extraction": dict(Counter(row.extraction for row in self.outcomes)),
            "cost": self.cost._asdict(),
            "judged": list(self.judged),
            "axes_reader": [asdict(row) for row in self.axes_read],
        }


def recipe_of_task(task_name: str, *, options: Mapping[str, object], item_count: int, template: str) -> Recipe:
    """A recipe that measures a task family: two thirds of the items search weak slices, one third confirms them."""
    task, confirm = find_task(task_name, options), item_count // 3
    search = item_count - confirm
    drawn = task.items(counts={"search": search, "confirm": confirm, "sealed": 0}, seed=0)
    axes = sorted({axis for item in drawn for axis in item.axes})
    if not axes:
        raise InvalidRecipe(f"the items of task {task_name!r} have no axes; give a recipe with suite.axes")
    suite = {"search": search, "confirm": confirm, "sealed": 0, "axes": axes, "options": dict(options)}
    document = {"name": "eval", "task": task_name, "template": template, "base": {"model": "."}, "suite": suite}
    return Recipe.model_validate(document)


def measure(
    directory: Path,
    *,
    recipe: Recipe,
    store: ArtifactStore,
    open_model: Callable[[Path], MeteredModel],
    on_start: Callable[[int], None],
    on_scored: Callable[[int], None],
) -> Measured:
    """Measure a checkpoint. What the store holds of the same evaluation is not measured again.

    Sealed items are for gates: they are drawn, so that the others are those of a run, and left out.
    """
    check_template(recipe.template)
    task = find_task(recipe.task, recipe.suite.options)
    drawn = [item for item in draw_items(task, recipe) if item.split != "sealed"]
    items = with_read_axes(drawn, recipe, store=store)
    check_axes(items, axes=recipe.suite.axes)
    spec = RunSpec(
        recipe=recipe,
        base=_EMPTY,
        corpus=put_rows(store, [], kind=Example),
        pool=None,
        items=put_rows(store, items, kind=Item),
        sealed_items=None,
        fingerprints=_EMPTY,
    )
    name = evaluation_id(
        recipe, checkpoint_sha=directory_sha(directory), items_sha=spec.items.sha256, sealed_sha="unsealed"
    )
    detectors = detectors_of(task)
    on_start(len(items) * recipe.suite.repeats)
    loaded: list[MeteredModel] = []

    def load() -> MeteredModel:
        if not loaded:
            loaded.append(open_model(directory))
        return loaded[0]

    kept = StoredOutcomes(store)
    parts = [
        Measurement(
            evaluation_id=name,
            index=index,
            count=recipe.suite.shards,
            spec=spec,
            task=task,
            load=load,
            telemetry=Telemetry(EVALUATOR),
            is_stopping=lambda: False,
            on_scored=on_scored,
        ).scored(items, kept_in=kept)
        for index in range(recipe.suite.shards)
    ]
    rows = sorted((row for part in parts for row in kept.rows(part)), key=lambda row: (row.item_id, row.repeat_index))
    result = _result(name, rows, rules=SliceRules.of(recipe.suite), cost=total_cost(part.cost for part in parts))
    read, verdicts = axes_read(recipe, drawn, store=store), judged(detectors, first_draws(rows))
    return replace(result, axes_read=tuple(read), judged=tuple(verdicts))


def write_results(measured: Measured, *, out: Path, store: ArtifactStore) -> Path:
    """outcomes.parquet and evaluation.json in a folder; the path of the first."""
    path = out / "outcomes.parquet"
    path.write_bytes(store.get(put_rows(store, measured.outcomes, kind=Outcome)))
    (out / "evaluation.json").write_text(json.dumps(measured.facts(), indent=1))
    return path


def _result(name: str, rows: list[Outcome], *, rules: SliceRules, cost: Cost) -> Measured:
    draws = first_draws(rows)
    correct, n = tally(draws)
    search = find_weak_slices(draws, rules=rules)
    return Measured(name, rows, correct, n, clopper_pearson(correct, n), pass_at_one(rows), search, cost)
