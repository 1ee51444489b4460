"""Resolves a recipe to artifacts and publishes LoopRequested.

A recipe that cannot run is refused before anything starts."""

from __future__ import annotations

import json
import secrets
from importlib.resources import as_file, files
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.bus.base import Bus
from mendloop.core.contracts import all_topics
from mendloop.core.errors import InvalidRecipe
from mendloop.core.events import envelope_for, stable_hash
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item, fingerprint
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import find_task
from mendloop.core.wire import artifact_ref
from mendloop.models.checkpoint import check_directory, save_checkpoint
from mendloop.v1 import common_pb2, loop_pb2

PACKAGED_MODELS = "mendloop.examples"


def resolve(recipe: Recipe, *, store: ArtifactStore, sealed_store: ArtifactStore, base_dir: Path) -> RunSpec:
    """Everything that the recipe names, stored. Raises InvalidRecipe where something is missing.

    Sealed items go to their own store; the others learn only their fingerprints.
    No evaluation item stays in the corpus.
    """
    _check_template(recipe.template)
    task = find_task(recipe.task, recipe.suite.options)
    items = task.items(
        counts={"search": recipe.suite.search, "confirm": recipe.suite.confirm, "sealed": recipe.suite.sealed},
        seed=recipe.seed,
    )
    _check_items(items, axes=recipe.suite.axes)
    marks = {fingerprint(item.prompt) for item in items}
    corpus = [example for example in task.corpus(recipe.corpus) if fingerprint(example.prompt) not in marks]
    pool = task.pool(recipe.pool) if recipe.pool else []
    if not corpus:
        raise InvalidRecipe(f"the corpus of task {recipe.task!r} with options {recipe.corpus} has no example left")
    sealed = [item for item in items if item.split == "sealed"]
    document = {"algorithm": "sha256", "fingerprints": sorted(marks)}
    return RunSpec(
        recipe=recipe,
        base=_store_model(store, recipe.base.model, base_dir=base_dir),
        corpus=put_rows(store, corpus, kind=Example),
        pool=put_rows(store, pool, kind=Example) if pool else None,
        items=put_rows(store, [item for item in items if item.split != "sealed"], kind=Item),
        sealed_items=put_rows(sealed_store, sealed, kind=Item) if sealed else None,
        fingerprints=store.put(json.dumps(document).encode(), media_type="application/json"),
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


def _check_template(template: str) -> None:
    try:
        filled = template.format(prompt="x")
    except (KeyError, IndexError, ValueError) as error:
        raise InvalidRecipe(f"template {template!r} cannot be filled: {error!r}; use only {{prompt}}") from error
    if template == filled:
        raise InvalidRecipe(f"template {template!r} does not contain {{prompt}}")


def _check_items(items: list[Item], *, axes: list[str]) -> None:
    if not items:
        raise InvalidRecipe("the suite has no items")
    ids = [item.item_id for item in items]
    doubled = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if doubled:
        raise InvalidRecipe(f"the suite has {len(doubled)} item id(s) more than once, e.g. {doubled[0]!r}")
    known = {axis for item in items for axis in item.axes}
    unknown = sorted(set(axes) - known)
    if unknown:
        raise InvalidRecipe(
            f"suite.axes names {', '.join(unknown)}; the items have {', '.join(sorted(known)) or 'none'}"
        )


def _store_model(store: ArtifactStore, model: str, *, base_dir: Path) -> Artifact:
    kind, _, name = model.partition(":")
    if kind == "package" and name:
        packaged = files(PACKAGED_MODELS).joinpath(*name.split("/"))
        if not packaged.is_dir():
            raise InvalidRecipe(f"base.model is {model!r}; no model {name!r} ships with the package")
        with as_file(packaged) as directory:
            return save_checkpoint(store, directory)
    directory = (base_dir / model).resolve()
    check_directory(directory)
    return save_checkpoint(store, directory)
