"""The axis `cluster` of a suite's items: built once from their prompts, stored, and the same for every checkpoint.

Knows stores and an embedder; knows no score. A sealed item's node is kept in the sealed store alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.axes import hierarchy as stored
from mendloop.core.errors import Permanent
from mendloop.core.events import stable_hash
from mendloop.core.records import Item
from mendloop.core.run_spec import RunSpec
from mendloop.evaluator.domain.hierarchy import AXIS, Tree, nearest, tree_of, values_of
from mendloop.evaluator.domain.weakness import SliceRules
from mendloop.evaluator.ports import Embedder

log = logging.getLogger(__name__)
NAMESPACE = "hierarchies"
Clusters = Mapping[str, tuple[str, ...]]
"""Nodes of each item, by its id."""


def open_clusters(spec: RunSpec, *, rules: SliceRules, store: ArtifactStore, embedder: Embedder | None) -> Clusters:
    """Nodes of the items; empty where the suite does not ask for the axis or its items have it already.

    A node holds half as many items again as a slice needs, so that both splits have enough of most nodes. Raises
    Permanent where the axis is asked for and no embedder is there.
    """
    if AXIS not in rules.axes:
        return {}
    items = get_rows(store, spec.items, kind=Item)
    if any(AXIS in item.axes for item in items):
        return {}
    if embedder is None:
        raise Permanent(f"the suite has the axis {AXIS!r} and this evaluator has no embedder: give it one, or drop it")
    min_items = -(-3 * (rules.min_items + rules.min_confirm_items) // 2)
    key = stable_hash(spec.items.sha256, embedder.name, str(min_items))[:32]
    kept = store.get_doc(NAMESPACE, key)
    if kept is not None:
        return _read(kept)
    texts = [item.prompt for item in items]
    projector = embedder.fit(texts)
    tree = tree_of(projector.embed(texts), texts, min_items=min_items)
    values = values_of(tree.nodes, item_count=len(items))
    facts = {"embedder": embedder.name, "item_count": len(items), "node_count": len(tree.nodes)}
    log.info("hierarchy built", extra=facts)
    _store(tree, spec, embedder=embedder.name, state=projector.to_bytes(), store=store)
    return _keep(items, values, store=store, key=key)


def sealed_clusters(
    spec: RunSpec, clusters: Clusters, *, store: ArtifactStore, sealed_store: ArtifactStore, embedder: Embedder | None
) -> Clusters:
    """Nodes of the sealed items: those of the most similar open item. They take no part in building or naming nodes."""
    if not clusters or spec.sealed_items is None or embedder is None:
        return {}
    key = stable_hash(spec.items.sha256, spec.sealed_items.sha256, embedder.name)[:32]
    kept = sealed_store.get_doc(NAMESPACE, key)
    if kept is not None:
        return _read(kept)
    items = get_rows(store, spec.items, kind=Item)
    sealed = get_rows(sealed_store, spec.sealed_items, kind=Item)
    vectors = embedder.embed([item.prompt for item in (*items, *sealed)])
    found = nearest(vectors[len(items) :], among=vectors[: len(items)])
    values = [clusters[items[row].item_id] for row in found.tolist()]
    return _keep(sealed, values, store=sealed_store, key=key)


def _store(tree: Tree, spec: RunSpec, *, embedder: str, state: bytes, store: ArtifactStore) -> None:
    """The hierarchy itself, so that other services can place prompts that are no items of it."""
    values = {node.path: node.value for node in tree.nodes}
    made = stored.Hierarchy(tree.cuts, values, embedder, state)
    artifact = store.put(made.to_bytes(), media_type=stored.MEDIA_TYPE)
    name = stored.hierarchy_name(spec.items.sha256, spec.recipe.suite)
    store.put_doc(stored.NAMESPACE, name, json.dumps(asdict(artifact)).encode())


def _keep(items: Sequence[Item], values: Sequence[tuple[str, ...]], *, store: ArtifactStore, key: str) -> Clusters:
    clusters = {item.item_id: row for item, row in zip(items, values, strict=True)}
    store.put_doc(NAMESPACE, key, json.dumps(clusters, sort_keys=True).encode())
    return clusters


def _read(document: bytes) -> Clusters:
    return {item_id: tuple(values) for item_id, values in json.loads(document).items()}
