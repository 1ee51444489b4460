"""Resolves a recipe to artifacts and publishes LoopRequested.

A recipe that cannot run is refused before anything starts, with the field that is at fault.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.axes.annotate import CLUSTER, annotated
from mendloop.axes.form import FormAxes
from mendloop.axes.rules import parse_rules
from mendloop.axes.subject import Annotator
from mendloop.bus.base import Bus
from mendloop.core.arms import RANDOM, Arm
from mendloop.core.contracts import all_topics
from mendloop.core.errors import InvalidRecipe
from mendloop.core.events import envelope_for, stable_hash
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item, fingerprint
from mendloop.core.run_spec import RunSpec
from mendloop.core.task_hooks import Rewording
from mendloop.core.tasks import Task, find_task, matches
from mendloop.core.twins import draw_twins
from mendloop.core.wire import artifact_ref
from mendloop.models.checkpoint import check_directory, save_checkpoint
from mendloop.passes.marks import EvaluationMarks, marks_document
from mendloop.submission.reading import note_axes_read, with_read_axes
from mendloop.v1 import common_pb2, loop_pb2

log = logging.getLogger(__name__)
PACKAGED_MODELS = "mendloop.examples"


class FieldFault(InvalidRecipe):
    """A recipe that reads well and cannot run; field is the dotted name of what is at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def resolve(recipe: Recipe, *, store: ArtifactStore, sealed_store: ArtifactStore, base_dir: Path) -> RunSpec:
    """Everything that the recipe names, stored. Raises InvalidRecipe where something is missing.

    Sealed items go to their own store; the others learn only their fingerprints.
    No evaluation item stays in the corpus or in the pool; how many were taken out is logged.
    """
    with _blaming("template"):
        check_template(recipe.template)
    with _blaming("base.model"):
        model = model_directory(recipe.base.model, base_dir=base_dir)
    with _blaming("task"):
        task = find_task(recipe.task, recipe.suite.options)
    if recipe.rewordings and not isinstance(task, Rewording):
        raise FieldFault("rewordings", f"rewordings: task {recipe.task!r} cannot say its prompts in other words")
    with _blaming("suite"):
        items = draw_items(task, recipe)
    with _blaming("suite.axes_reader"):
        sealed = with_read_axes([item for item in items if item.split == "sealed"], recipe, store=sealed_store)
        items = [*with_read_axes([i for i in items if i.split != "sealed"], recipe, store=store), *sealed]
    with _blaming("suite.axes"):
        check_axes(items, axes=recipe.suite.axes)
    with _blaming("gates.protected"):
        check_axes(items, axes=recipe.gates.protected)
    with _blaming("suite.twins"):
        twins = _twins(task, items, recipe)
    prompts = [item.prompt for item in (*items, *twins)]
    document = marks_document(prompts, **recipe.decontamination.model_dump())
    marks = EvaluationMarks.of(document, name="the suite")
    with _blaming("corpus"):
        corpus = _clean("corpus", _with_axes(task.corpus(recipe.corpus), task, recipe), marks=marks)
        if not corpus:
            raise InvalidRecipe(f"task {recipe.task!r} has no example left with the options {recipe.corpus}")
    with _blaming("pool"):
        pool = _clean("pool", _with_axes(task.pool(recipe.pool), task, recipe), marks=marks) if recipe.pool else []
    with _blaming("arms"):
        check_arms(recipe.control_arms, items, has_pool=bool(pool))
    opened = [item for item in items if item.split != "sealed"]
    kept = put_rows(store, opened, kind=Item)
    note_axes_read(recipe, opened, items_sha=kept.sha256, store=store)
    with _blaming("base.model"), model as directory:
        base = save_checkpoint(store, directory)
    return RunSpec(
        recipe=recipe,
        base=base,
        corpus=put_rows(store, corpus, kind=Example),
        pool=put_rows(store, pool, kind=Example) if pool else None,
        items=kept,
        sealed_items=put_rows(sealed_store, sealed, kind=Item) if sealed else None,
        fingerprints=store.put(json.dumps(document).encode(), media_type="application/json"),
        twins=put_rows(sealed_store, twins, kind=Item) if twins else None,
    )


def submit(
    recipe: Recipe,
    *,
    bus: Bus,
    store: ArtifactStore,
    sealed_store: ArtifactStore,
    base_dir: Path,
    run_id: str | None = None,
    requested_by: str = "",
) -> str:
    """Ask for a run and return its id. The same run id asked for twice is one run."""
    spec = resolve(recipe, store=store, sealed_store=sealed_store, base_dir=base_dir)
    run_id = run_id or f"{recipe.name}-{secrets.token_hex(3)}"
    message = loop_pb2.LoopRequested(
        position=common_pb2.RunPosition(run_id=run_id),
        run_spec=artifact_ref(spec.store(store)),
        requested_by=requested_by,
    )
    event_id = stable_hash("submission", "mendloop.v1.LoopRequested", run_id)[:32]
    bus.ensure_topics(all_topics())
    bus.publish([envelope_for(message, event_id=event_id, source="submission", key=run_id, subject=run_id)])
    return run_id


def check_template(template: str) -> None:
    """Raises InvalidRecipe for a template that cannot be filled, or that does not contain the prompt."""
    try:
        filled = template.format(prompt="x")
    except (KeyError, IndexError, ValueError) as error:
        raise InvalidRecipe(f"template {template!r} cannot be filled: {error!r}; use only {{prompt}}") from error
    if template == filled:
        raise InvalidRecipe(f"template {template!r} does not contain {{prompt}}")


def draw_items(task: Task, recipe: Recipe) -> list[Item]:
    """Every item of the suite, sealed ones too. Raises InvalidRecipe where they are too few or ids are doubled."""
    suite = recipe.suite
    counts = {"search": suite.search, "confirm": suite.confirm, "sealed": suite.sealed}
    annotators: list[Annotator] = [parse_rules(suite.axis_rules), FormAxes()]
    items = annotated(task.items(counts=counts, seed=recipe.seed), annotators, axes=suite.axes)
    if not items:
        raise InvalidRecipe("the suite has no items")
    doubled = sorted(name for name, n in Counter(item.item_id for item in items).items() if n > 1)
    if doubled:
        raise InvalidRecipe(f"the suite has {len(doubled)} item id(s) more than once, e.g. {doubled[0]!r}")
    made = Counter(item.split for item in items)
    short = {split: f"{made[split]} of {n}" for split, n in counts.items() if made[split] < n}  # type: ignore[index]
    if short:
        raise InvalidRecipe(f"task {recipe.task!r} made too few items: {short}; ask for fewer")
    return items


def check_axes(items: list[Item], *, axes: list[str]) -> None:
    """Raises InvalidRecipe for an axis that no item has."""
    known = {axis for item in items for axis in item.axes}
    unknown = sorted(set(axes) - known - {CLUSTER})
    if unknown:
        raise InvalidRecipe(f"unknown axis {', '.join(unknown)}; the items have {', '.join(sorted(known)) or 'none'}")


def check_arms(arms: Sequence[Arm], items: Sequence[Item], *, has_pool: bool) -> None:
    """Raises InvalidRecipe for a control that cannot get an example: it would cost time and show nothing."""
    for arm in arms:
        if arm.name == RANDOM and not has_pool:
            raise InvalidRecipe(f"the arm {RANDOM} draws from the pool, and there is none: set pool, or remove it")
        for region in arm.regions:
            if CLUSTER not in dict(region) and not any(matches(item.axes, region) for item in items):
                words = ", ".join(f"{axis}: {value}" for axis, value in region)
                raise InvalidRecipe(f"no item lies in the region {{{words}}} of the arm {arm.name}: correct it")


def _with_axes(examples: list[Example], task: Task, recipe: Recipe) -> list[Example]:
    """Examples with the recipe's own axes, so that a slice on them can be looked for in the data."""
    suite = recipe.suite
    annotators: list[Annotator] = [parse_rules(suite.axis_rules), FormAxes()]
    if not any(set(suite.axes) & set(annotator.axes) for annotator in annotators):
        return examples
    own = [row if row.axes else replace(row, axes=task.annotate(row.prompt)) for row in examples]
    return annotated(own, annotators, axes=suite.axes)


def _twins(task: Task, items: list[Item], recipe: Recipe) -> list[Item]:
    """Fresh twins of the open items for every round; empty where the recipe asks for none."""
    if not recipe.suite.twins:
        return []
    taken = {fingerprint(item.prompt) for item in items}
    items = [item for item in items if item.split != "sealed"]
    try:
        drawn = draw_twins(task, items, rounds=recipe.rounds, seed=recipe.seed, taken=taken)
    except ValueError as error:
        raise InvalidRecipe(f"task {recipe.task!r}: {error}; set suite.twins to false") from error
    wanted = len(items) * recipe.rounds
    log.info("twins drawn", extra={"drawn": len(drawn.items), "missing": drawn.missing_count, "wanted": wanted})
    if not drawn.items:
        raise InvalidRecipe(f"none of {wanted} twins is new: the domain is used up; ask for fewer items")
    return list(drawn.items)


def _clean(name: str, examples: list[Example], *, marks: EvaluationMarks) -> list[Example]:
    reasons = marks.reasons([row.prompt for row in examples], [row.completion for row in examples])
    kept = [example for example, reason in zip(examples, reasons, strict=True) if not reason]
    log.info(
        "evaluation items taken out",
        extra={
            "of": name,
            "removed": len(examples) - len(kept),
            "kept": len(kept),
            "reasons": dict(Counter(filter(None, reasons))),
        },
    )
    return kept


def model_directory(model: str, *, base_dir: Path) -> AbstractContextManager[Path]:
    """The checked directory of a model: a path, or package:NAME for one that ships."""
    kind, _, name = model.partition(":")
    if kind == "package" and name:
        packaged = files(PACKAGED_MODELS).joinpath(*name.split("/"))
        if ".." in name.split("/") or not packaged.is_dir():
            raise InvalidRecipe(f"{model!r}: no model {name!r} ships with the package")
        return as_file(packaged)
    directory = (base_dir / model).resolve()
    check_directory(directory)
    return nullcontext(directory)


@contextmanager
def _blaming(field: str) -> Iterator[None]:
    try:
        yield
    except FieldFault:
        raise
    except InvalidRecipe as error:
        raise FieldFault(field, f"{field}: {error}") from error
