"""What a data round does to the corpus itself: wrong labels repaired or removed, clusters of weak slices replayed more.

Knows examples, orders and who judges labels; knows neither events nor stores.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mendloop.axes.term_clusters import Clustering, cluster
from mendloop.core.recipe import CurationSettings
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.batch import Order
from mendloop.data_generator.domain.ledger import CORPUS, Ledger
from mendloop.data_generator.domain.repair import REPAIRED, Repair, repaired
from mendloop.data_generator.domain.reweighting import by_deficit, resampled
from mendloop.passes.texts import words_of

FIT_SAMPLE = 5_000
"""Prompts from which the clusters are learnt."""
WHOLE = "the whole corpus"


@dataclass(frozen=True, slots=True)
class Curated:
    """The corpus to replay, and what was done to it; facts are empty where nothing was."""

    corpus: Sequence[Example]
    known: Sequence[Example]
    """Its distinct rows: what a new example must not repeat."""
    facts: Mapping[str, object] = field(default_factory=dict)


def curated(
    corpus: Sequence[Example],
    orders: Sequence[Order],
    *,
    settings: CurationSettings,
    corrupted: Sequence[str],
    repair: Repair,
    prompts_of: Callable[[Conditions], Sequence[str]],
    seed: int,
    ledger: Ledger,
) -> Curated:
    """The corpus as the recipe has it curated for these orders; corrupted names those whose labels are wrong.

    prompts_of gives search prompts of a slice: they say in which clusters it lies.
    """
    rows = list(corpus)
    for name, conditions in _scopes(orders, settings=settings, corrupted=corrupted):
        rows = repaired(rows, conditions=conditions, name=name, by=repair, ledger=ledger)
    facts: dict[str, object] = {}
    if rows != list(corpus):
        mended = sum(row.source.startswith(f"{REPAIRED}:") for row in rows)
        facts = {"rows_before": len(corpus), "rows_removed": len(corpus) - len(rows), "labels_repaired": mended}
    replayed = rows
    if settings.reweight and rows:
        replayed, weights = _reweighted(
            rows, orders, settings=settings, prompts_of=prompts_of, seed=seed, ledger=ledger
        )
        facts |= {"clusters": weights} if weights else {}
    return Curated(replayed, rows, facts)


def _scopes(
    orders: Sequence[Order], *, settings: CurationSettings, corrupted: Sequence[str]
) -> Sequence[tuple[str, Conditions]]:
    if settings.repair == "whole":
        return [(WHOLE, ())]
    if settings.repair == "slices":
        return [(order.name, order.conditions) for order in orders if order.name in corrupted]
    return []


def _reweighted(
    rows: list[Example],
    orders: Sequence[Order],
    *,
    settings: CurationSettings,
    prompts_of: Callable[[Conditions], Sequence[str]],
    seed: int,
    ledger: Ledger,
) -> tuple[list[Example], dict[str, object]]:
    """As many rows, with more of the clusters in which the slices lie; and each cluster's share before and after."""
    sample = random.Random(seed).sample(rows, min(FIT_SAMPLE, len(rows)))
    clustering = cluster([words_of(row.prompt) for row in sample], seed=seed, most=settings.clusters)
    groups = _groups([row.prompt for row in rows], clustering)
    deficits = _deficits(orders, clustering, prompts_of=prompts_of)
    counts = Counter(groups)
    if not any(deficits[group] for group in deficits if counts[group]):
        ledger.note(CORPUS, "replay is not reweighted: no search item of the ordered slices lies in a cluster")
        return rows, {}
    weights = by_deficit(counts, deficits, strength=settings.reweight)
    shares = {group: {"before": counts[group] / len(rows), "after": weights[group]} for group in sorted(weights)}
    for group, share in shares.items():
        ledger.note(CORPUS, f"replay of the cluster {group}: {share['before']:.1%} of it becomes {share['after']:.1%}")
    return resampled(rows, groups, weights, seed=seed), dict(shares)


def _deficits(
    orders: Sequence[Order], clustering: Clustering, *, prompts_of: Callable[[Conditions], Sequence[str]]
) -> dict[str, float]:
    """Ordered examples of each cluster: the plan has split them by failure mass."""
    mass: dict[str, float] = {}
    for order in orders:
        groups = _groups(prompts_of(order.conditions), clustering)
        for group, count in Counter(groups).items():
            mass[group] = mass.get(group, 0.0) + order.count * count / len(groups)
    return mass


def _groups(prompts: Sequence[str], clustering: Clustering) -> list[str]:
    if not prompts:
        return []
    names = [f"{at}: {one.name}" for at, one in enumerate(clustering.clusters)]
    return [names[at] for at in clustering.assigned([words_of(prompt) for prompt in prompts])]
