"""What a round works on beside its sources: search items, the shelf that retrieval searches, the corpus to replay.

Knows run specifications and plans; decides nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.axes.annotate import CLUSTER
from mendloop.axes.placing import Places
from mendloop.core.events import stable_hash
from mendloop.core.records import Example, Item
from mendloop.core.run_spec import RunSpec
from mendloop.core.task_hooks import Answering
from mendloop.core.tasks import Task, matches
from mendloop.data_generator.domain.batch import Order
from mendloop.data_generator.domain.curation import Curated, curated
from mendloop.data_generator.domain.ledger import Ledger
from mendloop.data_generator.domain.repair import Repair
from mendloop.data_generator.ports import Shelf
from mendloop.v1 import diagnosis_pb2, intervention_pb2


def shelf_of(
    spec: RunSpec,
    pool: Sequence[Example],
    *,
    places: Places | None,
    is_stopping: Callable[[], bool],
    store: ArtifactStore,
) -> Shelf | None:
    """The pool as retrieval searches it; None where the recipe asks for no retrieval or has no pool."""
    if spec.recipe.retrieval is None or not pool:
        return None
    options = json.dumps([spec.recipe.task, spec.recipe.pool], sort_keys=True)
    items = search_items(spec, places=places, store=store)
    return Shelf(stable_hash("shelf", options)[:16], spec.recipe.retrieval, pool, items, is_stopping)


def curated_corpus(
    plan: intervention_pb2.InterventionPlanned,
    orders: Sequence[Order],
    *,
    spec: RunSpec,
    task: Task,
    corpus: Sequence[Example],
    can_verify: Callable[[], bool],
    places: Places | None,
    store: ArtifactStore,
    ledger: Ledger,
) -> Curated:
    """The corpus as the recipe has it curated in this round; itself by default."""
    settings = spec.recipe.curation
    if settings.repair == "off" and not settings.reweight:
        return Curated(corpus, corpus)
    items = search_items(spec, places=places, store=store) if settings.reweight else []
    causes = {order.name: item.cause for order, item in zip(orders, plan.items, strict=True)}
    return curated(
        corpus,
        orders,
        settings=settings,
        corrupted=[name for name, cause in causes.items() if cause == diagnosis_pb2.CAUSE_DATA_CORRUPTED],
        repair=Repair(
            verify=task.verify,
            answer=task.answer if isinstance(task, Answering) else lambda prompt: "",
            can_verify=can_verify(),
        ),
        prompts_of=lambda conditions: [item.prompt for item in items if matches(item.axes, conditions)],
        seed=spec.recipe.seed,
        ledger=ledger,
    )


def search_items(spec: RunSpec, *, places: Places | None, store: ArtifactStore) -> list[Item]:
    """Items of the search split with their nodes: the other splits must not shape what is trained on."""
    items = [item for item in get_rows(store, spec.items, kind=Item) if item.split == "search"]
    if places is None:
        return items
    nodes = places.of([item.prompt for item in items])
    return [replace(item, axes={**item.axes, CLUSTER: own}) for item, own in zip(items, nodes, strict=True)]
