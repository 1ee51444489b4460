"""Precision of retrieval from a pool that carries no axis values: BM25, vectors, both fused, and the pool at random.

    python benchmarks/retrieval.py [--pool 4000] [--seeds 5] [--model tfidf]

A slice of SCAN is weak and the pool's rows do not say what they are of, so that only likeness to the slice's own items
can find its examples. Relevant is a row of the slice (by SCAN's own axes, which no source sees). Precision at k is
the share of the k first rows that are relevant. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

from mendloop.core.recipe import RetrievalSettings
from mendloop.core.records import Axes, Example, Item
from mendloop.core.tasks import Conditions, find_task, matches
from mendloop.data_generator.adapters.embedding import ModelEmbedding
from mendloop.data_generator.adapters.pool import PoolSource
from mendloop.data_generator.adapters.retrieval import open_retrieval
from mendloop.data_generator.ports import Shelf, Source

RESULTS = Path(__file__).parent / "results" / "retrieval.json"
K = 64
SLICES: dict[str, Conditions] = {
    "verb=jump": (("verb", "jump"),),
    "around right": (("direction", "right"), ("manner", "around")),
    "jump thrice": (("verb", "jump"), ("repetition", "thrice")),
}
MODES = ("hybrid", "bm25", "vectors")


def main() -> None:
    """Every slice, source and seed."""
    options = _options()
    task = find_task("scan", {})
    pool = random.Random(0).sample(list(task.teach((), seed=0)), options.pool)
    bare = [replace(row, axes={}) for row in pool]
    axes = {row.prompt: row.axes for row in pool}
    items = task.items(counts={"search": 600, "confirm": 20, "sealed": 0}, seed=1)
    search = [item for item in items if item.split == "search"]
    rows = []
    with TemporaryDirectory(prefix="mendloop-bench-") as folder:
        for name, conditions in SLICES.items():
            failing = [replace(item, axes={}) for item in search if matches(item.axes, conditions)]
            relevant = sum(matches(row.axes, conditions) for row in pool)
            for source, label in _sources(bare, failing, folder=Path(folder), model=options.model):
                found = [
                    _precision(source, seed=seed, axes=axes, conditions=conditions) for seed in range(options.seeds)
                ]
                spread = stdev(found) if len(found) > 1 else 0.0
                rows.append(
                    {"slice": name, "source": label, "precision": mean(found), "sd": spread, "relevant": relevant}
                )
                print(
                    f"{name:14} {label:8} precision@{K} {mean(found):.3f} (sd {spread:.3f})  {relevant} relevant rows"
                )
    document = {"k": K, "pool": options.pool, "seeds": options.seeds, "embedder": options.model, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=4_000, help="rows of the pool")
    parser.add_argument("--seeds", type=int, default=5, help="draws of the 16 queries")
    parser.add_argument("--model", default="tfidf", help="auto, tfidf or a directory")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _sources(pool: Sequence[Example], failing: Sequence[Item], *, folder: Path, model: str) -> list[tuple[Source, str]]:
    found: list[tuple[Source, str]] = [(PoolSource(pool, annotate=lambda prompt: {}), "pool")]
    for mode in MODES:
        shelf = Shelf("scan", RetrievalSettings(mode=mode), pool, failing, lambda: False)
        started = time.monotonic()
        [source] = open_retrieval(folder, embedding=ModelEmbedding(model))(shelf)
        print(f"table of {len(pool)} rows brought up to date in {time.monotonic() - started:.1f} s")
        found.append((source, mode))
    return found


def _precision(source: Source, *, seed: int, axes: dict[str, Axes], conditions: Conditions) -> float:
    first = list(islice(source.candidates((), seed=seed), K))
    return sum(matches(axes[row.prompt], conditions) for row in first) / K


if __name__ == "__main__":
    main()
