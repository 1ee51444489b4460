"""Many cases: which ones a benchmark plants, and planting them in processes. What is finished is kept.

Knows specs and folders; knows no fault's insides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from mendloop.core.events import stable_hash
from mendloop.examples.faults.catalogue import FAULTS, Fault
from mendloop.examples.faults.plan import ITEM_COUNT
from mendloop.examples.faults.planning import Planting, Spec
from mendloop.examples.faults.planting import Planted, plant
from mendloop.examples.faults.registry import find_family

CACHE = "healthy"
SEVERITIES = (0.5, 0.75, 1.0)
PARTIAL = {
    "unknown-terms": 0.6,
    "no-steps": 0.6,
    "wrong-labels": 0.6,
    "rare": 0.5,
    "leaked-items": 0.6,
    "forgotten": 0.5,
}
BESIDE = {"wrapped": 0.3, "cut-off": 0.3, "wrong-targets": 0.3}
"""Faults with the severity at which each leaves room for another: what fails everything hides what is beside it."""
PAIRS_A_SEED = 6

OnDone = Callable[[Spec, Planted], None]


def single_specs(families: Sequence[str], *, seeds: Sequence[int], item_count: int = ITEM_COUNT) -> list[Spec]:
    """Every fault that suits a family, once a seed, with a severity that the seed draws."""
    return [
        Spec(family, (Planting(fault.name, _severity(fault, seed)),), seed, item_count)
        for family in families
        for seed in seeds
        for fault in _suited(family, seed)
    ]


def pair_specs(
    families: Sequence[str], *, seeds: Sequence[int], count: int = PAIRS_A_SEED, item_count: int = ITEM_COUNT
) -> list[Spec]:
    """A fault of the training or its data beside one of the evaluation: count pairs a family and seed."""
    specs = []
    for family in families:
        for seed in seeds:
            suited = {fault.name for fault in _suited(family, seed)}
            pairs = [(one, other) for one in PARTIAL for other in BESIDE if {one, other} <= suited]
            drawn = random.Random(stable_hash("pairs", family, str(seed))).sample(pairs, min(count, len(pairs)))
            specs += [
                Spec(family, (Planting(one, PARTIAL[one]), Planting(other, BESIDE[other])), seed, item_count)
                for one, other in drawn
            ]
    return specs


def plant_many(
    specs: Sequence[Spec], out_dir: Path, *, workers: int = 1, on_done: OnDone = lambda spec, planted: None
) -> list[Planted]:
    """Plant every spec under out_dir/<spec name>; healthy checkpoints lie in out_dir/healthy.

    Specs of one family and seed share a healthy checkpoint and go to one worker. A folder that holds the same world
    is kept, so a run that was stopped goes on. on_done is told of each in the order in which they are finished.
    """
    results: dict[str, Planted] = {}
    groups = [list(group) for _, group in groupby(sorted(specs, key=_group), key=_group)]
    for spec, planted in _each(groups, out_dir, workers=workers):
        results[spec.name] = planted
        on_done(spec, planted)
    return [results[spec.name] for spec in specs]


def _each(groups: Sequence[list[Spec]], out_dir: Path, *, workers: int) -> Iterator[tuple[Spec, Planted]]:
    if workers <= 1:
        for group in groups:
            for spec in group:
                yield _plant_one(spec, out_dir)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_plant_group, group, out_dir) for group in groups]):
            yield from done.result()


def _plant_group(group: Sequence[Spec], out_dir: Path) -> list[tuple[Spec, Planted]]:
    return [_plant_one(spec, out_dir) for spec in group]


def _plant_one(spec: Spec, out_dir: Path) -> tuple[Spec, Planted]:
    family = find_family(spec.family)
    return spec, plant(family, spec, out_dir=out_dir / spec.name, cache=out_dir / CACHE)


def _group(spec: Spec) -> tuple[str, int]:
    return spec.family, spec.seed


def _suited(family: str, seed: int) -> list[Fault]:
    loaded = find_family(family)
    return [fault for fault in FAULTS if fault.places(loaded, seed=seed)]


def _severity(fault: Fault, seed: int) -> float:
    return random.Random(stable_hash("severity", fault.name, str(seed))).choice(SEVERITIES)
