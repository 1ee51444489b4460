"""Finds planted weaknesses on real BBH items: F1 against simpler searches, false slices, seconds and memory.

`python benchmarks/slices.py --help` says what each row means.
"""

from __future__ import annotations

import json
import math
import platform
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.cluster.vq import kmeans2
from scipy.special import bdtr, stdtrit

from mendloop.axes.annotate import merged
from mendloop.axes.form import FormAxes
from mendloop.axes.rules import parse_rules
from mendloop.axes.subject import Subject
from mendloop.core.records import Axes, Outcome, Split
from mendloop.core.stats import clopper_pearson
from mendloop.core.tasks import matches
from mendloop.evaluator.domain.hierarchy import AXIS, hierarchy_of, values_of
from mendloop.evaluator.domain.slices import find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules, SliceTable
from mendloop.models.embeddings import embedder_of

BASE = 0.7  # P(correct) of an item without a planted weakness, as in EvalTree
PLANTED = 10
SIZES = (60, 400)
LEAF_ITEMS = 45
KMEANS = (10, 20, 40, 80)
# What the tasks ask for, read from the prompts' words.
OPERATIONS = {
    "negation": r"\bnot\b",
    "double negation": r"\bnot not\b",
    "conjunction": r"(True|False|\)) and ",
    "multiplication": r"\* -?\d",
    "subtraction": r"\d\)? - -?\d",
    "turning": r"Turn (left|right|around)",
    "walking sideways": r"steps? (left|right)",
    "counting": r"[Hh]ow many",
    "removing": r"If I remove",
    "neighbour": r"directly to the (left|right)",
    "ordering": r"(older|newer|oldest|newest|finished|leftmost|rightmost|expensive|cheapest)",
    "swapping": r"(swap|trade|switch)",
    "lying": r"\blies\b",
    "sorting": r"Sort the following",
    "arc": r"\bA \d",
    "closing brackets": r"parentheses are closed",
    "relative date": r"(yesterday|tomorrow|ago|later|from (now|today))",
    "free time": r"Between what times",
}
RULES = [
    {"axis": "task", "field": "document.task"},
    {"axis": "operation", "values": OPERATIONS},
    {"axis": "sentences", "count": r"[.?!](\s|$)", "bounds": [1, 3, 6, 9, 12]},
]
AXES = ("task", "operation", "sentences", *FormAxes.axes)
Mask = NDArray[np.bool_]
Searches = dict[str, Callable[[Mask, Mask], list[Mask]]]
OURS = "ours, axes"
TREE = "ours, hierarchy only"
BOTH = "ours, axes and hierarchy"
UNCORRECTED = "one split, uncorrected, axes"


@dataclass(frozen=True, slots=True)
class World:
    """The real items: texts, axis values with and without rules, and which item mentions which word."""

    texts: tuple[str, ...]
    axes: tuple[Axes, ...]
    clusters: tuple[Axes, ...]
    vectors: NDArray[np.float32]
    embedder: str
    pools: dict[str, list[Mask]]


@dataclass(frozen=True, slots=True)
class Row:
    """One search in one kind of world: means over seeds, with 95 % t intervals of F1 and of its paired difference."""

    planted: str
    d: float
    search: str
    f1: float
    low: float
    high: float
    precision: float
    recall: float
    matched_f1: float
    reported: float
    ours_more: float
    ours_more_low: float
    ours_more_high: float
    seeds: list[float]


def read_world(folder: Path, *, embedder: str, vectors: Path | None) -> World:
    """The BBH items with axes, clusters and the pools that weaknesses are drawn from."""
    names = sorted(folder.glob("*.jsonl"))
    if not names:
        raise typer.BadParameter(f"{folder} holds no *.jsonl")
    rows = [(path.stem, json.loads(line)) for path in names for line in path.read_text().splitlines()]
    texts = tuple(row["input"] for _, row in rows)
    annotators = [parse_rules(RULES), FormAxes()]
    subjects = [Subject(row["input"], row["target"], {"task": task}) for task, row in rows]
    axes = tuple(merged({}, subject, annotators) for subject in subjects)
    torch.set_num_threads(1)
    model = embedder_of(embedder)
    embedded = np.load(vectors) if vectors and vectors.exists() else model.embed(texts)
    if vectors and not vectors.exists():
        np.save(vectors, embedded)
    nodes = hierarchy_of(embedded, texts, min_items=LEAF_ITEMS)
    clusters = tuple({AXIS: values} for values in values_of(nodes, item_count=len(texts)))
    return World(texts, axes, clusters, embedded, model.name, {"axes": _on_axes(axes), "words": _on_words(texts)})


def _on_axes(axes: Sequence[Axes]) -> list[Mask]:
    """Every axis value and every conjunction with a task."""
    pairs = sorted({(axis, value) for row in axes for axis, values in row.items() for value in values})
    tasks = [pair for pair in pairs if pair[0] == "task"]
    wanted = [*((pair,) for pair in pairs), *((task, pair) for task in tasks for pair in pairs if pair[0] != "task")]
    return _sized(np.array([matches(row, conditions) for row in axes]) for conditions in wanted)


def _on_words(texts: Sequence[str]) -> list[Mask]:
    """Every word whose mention has the size of a weakness: no axis knows it."""
    words = [set(re.findall(r"[a-z]{4,}", text.lower())) for text in texts]
    common = sorted(w for w, n in Counter(w for row in words for w in row).items() if SIZES[0] <= n <= SIZES[1])
    return _sized(np.array([word in row for row in words]) for word in common)


def _sized(masks: Iterable[Mask]) -> list[Mask]:
    """Those with the size of a weakness, equal ones once."""
    return list({mask.tobytes(): mask for mask in masks if SIZES[0] <= mask.sum() <= SIZES[1]}.values())


def planted_world(world: World, *, pool: str, d: float, seed: int) -> tuple[list[Mask], Mask, Mask]:
    """(weaknesses, which items are right, which items are searched rather than kept for confirmation)."""
    rng = np.random.default_rng((seed, len(pool)))
    masks = world.pools[pool]
    weak = [masks[i] for i in rng.choice(len(masks), size=PLANTED, replace=False)] if d < 1 else []
    hits = np.sum(weak, axis=0) if weak else np.zeros(len(world.texts))
    return weak, rng.random(len(hits)) < BASE * d**hits, rng.random(len(hits)) < 2 / 3


def f1_of(found: Sequence[Mask], weak: Sequence[Mask]) -> tuple[float, float, float]:
    """(F1, precision, recall) by items covered: of each reported slice by the planted ones, and the other way round."""
    if not found:
        return 0.0, 0.0, 0.0
    planted, reported = np.any(weak, axis=0), np.any(found, axis=0)
    precision = float(np.mean([planted[mask].mean() for mask in found]))
    recall = float(np.mean([reported[mask].mean() for mask in weak]))
    return (2 * precision * recall / (precision + recall) if precision + recall else 0.0), precision, recall


def matched_f1_of(found: Sequence[Mask], weak: Sequence[Mask]) -> float:
    """F1 of whole slices: one is found where a reported slice shares half of the items of both (Jaccard >= .5)."""
    if not found:
        return 0.0
    pairs = np.array([[(a & b).sum() / (a | b).sum() for b in weak] for a in found]) >= 0.5
    precision, recall = float(pairs.any(axis=1).mean()), float(pairs.any(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outcomes(axes: Sequence[Axes], right: Mask, searched: Mask) -> list[Outcome]:
    """Outcomes as the evaluator makes them."""
    splits: list[Split] = ["search" if row else "confirm" for row in searched]
    scores = right.astype(np.float64).tolist()
    return [
        replace(TEMPLATE, item_id=f"{i:06d}", split=splits[i], score=scores[i], axes=row) for i, row in enumerate(axes)
    ]


TEMPLATE = Outcome("", "search", "p", "o", "t", 0.0, 1, 1, "eos", "exact", -1.0, 0)


def rules_of(axes: Sequence[str], *, depth: int, threshold: float) -> SliceRules:
    """The recipe's defaults, but for the limit of four slices."""
    return SliceRules(tuple(axes), depth, threshold, min_items=20, min_confirm_items=10, fdr=0.05, max_slices=100)


def searches(world: World, *, threshold: float) -> Searches:
    """Every search by name: (right, searched) to the slices that it reports."""

    def ours(axes: Sequence[Axes], rules: SliceRules) -> Callable[[Mask, Mask], list[Mask]]:
        def search(right: Mask, searched: Mask) -> list[Mask]:
            weak = find_weak_slices(outcomes(axes, right, searched), rules=rules).weak
            return [np.array([matches(row, found.conditions) for row in axes]) for found in weak]

        return search

    def uncorrected(axes: Sequence[Axes], rules: SliceRules) -> Callable[[Mask, Mask], list[Mask]]:
        def search(right: Mask, searched: Mask) -> list[Mask]:
            rows = outcomes(axes, right, np.ones_like(right))
            table = SliceTable.of(rows, rules=replace(rules, min_confirm_items=0))
            indexes = range(len(table.candidates.definitions))
            p_values = table.p_values(indexes, table.in_search)
            named = [table.candidates.definitions[i] for i in indexes if p_values[i] <= 0.05]
            return [np.array([matches(row, conditions) for row in axes]) for conditions in named]

        return search

    def kmeans(labels: NDArray[np.int32]) -> Callable[[Mask, Mask], list[Mask]]:
        def search(right: Mask, searched: Mask) -> list[Mask]:
            groups = [labels == label for label in np.unique(labels)]
            return [g for g in groups if bdtr(float(right[g].sum()), int(g.sum()), threshold) <= 0.05]

        return search

    on_axes, on_tree = rules_of(AXES, depth=2, threshold=threshold), rules_of((AXIS,), depth=1, threshold=threshold)
    both = [{**axes, **nodes} for axes, nodes in zip(world.axes, world.clusters, strict=True)]
    labels = {k: kmeans2(world.vectors.astype(np.float64), k, minit="++", seed=0)[1] for k in KMEANS}
    return {
        OURS: ours(world.axes, on_axes),
        TREE: ours(world.clusters, on_tree),
        BOTH: ours(both, replace(on_axes, axes=(*AXES, AXIS))),
        UNCORRECTED: uncorrected(world.axes, on_axes),
        "one split, uncorrected, hierarchy": uncorrected(world.clusters, on_tree),
        **{f"flat k-means, k={k}": kmeans(labels[k]) for k in KMEANS},
        "all items reported": lambda right, searched: [np.ones_like(right)],
    }


def measure(world: World, found_by: Searches, *, pool: str, d: float, seeds: Sequence[int]) -> list[Row]:
    """F1 of every search over the seeds."""
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in found_by}
    for seed in seeds:
        weak, right, searched = planted_world(world, pool=pool, d=d, seed=seed)
        for name, search in found_by.items():
            found = search(right, searched)
            results[name].append((*f1_of(found, weak), matched_f1_of(found, weak), float(len(found))))
    ours = np.array(results[OURS])[:, 0]
    return [_row(pool, d, name, np.array(rows), ours=ours) for name, rows in results.items()]


def _row(pool: str, d: float, name: str, figures: NDArray[np.float64], *, ours: NDArray[np.float64]) -> Row:
    f1, precision, recall, matched, reported = figures.mean(axis=0).tolist()
    low, high = _t_interval(figures[:, 0])
    more = ours - figures[:, 0]
    kept = [round(score, 4) for score in figures[:, 0].tolist()]
    gain = (float(more.mean()), *_t_interval(more))
    return Row(pool, d, name, f1, low, high, precision, recall, matched, reported, *gain, kept)


def _t_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    n = len(values)
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return float(values.mean()) - half, float(values.mean()) + half


def false_slices(world: World, *, rounds: int, threshold: float) -> list[dict[str, object]]:
    """Rounds in which a slice is reported though every item is right with the same probability."""
    rows: list[dict[str, object]] = []
    for limit in (threshold, BASE):
        found = searches(world, threshold=limit)
        for name, n in ((OURS, rounds), (TREE, rounds), (BOTH, rounds), (UNCORRECTED, rounds // 4)):
            worlds = (planted_world(world, pool="axes", d=1.0, seed=10_000 + i)[1:] for i in range(n))
            false = sum(bool(found[name](right, searched)) for right, searched in worlds)
            low, high = clopper_pearson(false, n)
            rows.append({"threshold": limit, "search": name, "false": false, "rounds": n, "low": low, "high": high})
    return rows


def scale(*, items: int, axis_count: int, depth: int, threshold: float) -> dict[str, object]:
    """Seconds and memory of one search with three planted conjunctions; memory is what the search adds to its rows."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (items, axis_count))
    axes = [{f"a{a}": (f"v{v}",) for a, v in enumerate(row)} for row in values.tolist()]
    weak = [(values[:, a] == 0) & (values[:, a + 1] == 1) for a in (0, 2, 4)]
    right = rng.random(items) < np.where(np.any(weak, axis=0), 0.3, 0.9)
    rows = outcomes(axes, right, rng.random(items) < 2 / 3)
    before = _peak_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    rules = rules_of([f"a{a}" for a in range(axis_count)], depth=depth, threshold=threshold)
    found = find_weak_slices(rows, rules=rules)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    named = [" ∧ ".join(f"{a}={v}" for a, v in slice_.conditions) for slice_ in found.weak]
    return {
        **{"items": items, "axes": axis_count, "depth": depth},
        **{"candidates": found.candidate_count, "confirmed": found.confirmed_count, "weak": named},
        "wall_s": wall,
        "cpu_s": cpu,
        "rows_mb": before,
        "added_mb": _peak_mb() - before,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    bbh: Annotated[Path, typer.Option(help="Folder of BBH tasks as JSONL: id, input, target.")],
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds as FIRST-LAST. Settings were tried on 100-104.")] = "10-19",
    rounds: Annotated[int, typer.Option(help="Rounds without weakness.")] = 200,
    threshold: Annotated[
        float, typer.Option(help="Accuracy below which a slice is weak; healthy items have .7.")
    ] = 0.6,
    embedder: Annotated[str, typer.Option(help="auto (packaged sentence model), tfidf, or a directory.")] = "auto",
    vectors: Annotated[
        Path | None, typer.Option(help="Keep the items' vectors in this .npy and use them again.")
    ] = None,
    depths: Annotated[str, typer.Option(help="Depths of the searches over 100,000 items x 8 axes.")] = "2,3",
) -> None:
    """Measure the slice search.

    Each round plants ten weaknesses on the real items; an item is right with probability .7 * d^(weaknesses that it
    has), as in EvalTree's harness (Zeng et al. 2025). Pool `axes`: axis values and their conjunctions with a task, the
    form that a search on axes can name. Pool `words`: items that mention a word, which no axis names. Weaknesses hold
    60 to 400 items and may overlap.

    F1 is that of items covered: precision is the mean share of a reported slice's items that have a planted weakness,
    recall the mean share of a planted weakness's items that a reported slice holds. It forgives much: `all items
    reported` finds nothing and shows what F1 is worth, and many overlapping slices cost nothing. So `matched F1` counts
    whole slices: found is what shares half of the items (Jaccard >= .5) with one of the other side. `ours more` is the
    paired difference of F1 over the same worlds. `ours` takes no size from hindsight; of k-means every k is shown.
    """
    first, _, last = seeds.partition("-")
    chosen = range(int(first), int(last or first) + 1)
    console = Console(width=150)
    scales = [
        scale(items=100_000, axis_count=8, depth=int(depth), threshold=0.8) for depth in depths.split(",") if depth
    ]
    console.print(_scale_table(scales))
    world = read_world(bbh, embedder=embedder, vectors=vectors)
    found_by = searches(world, threshold=threshold)
    kinds = [(pool, d) for pool in ("axes", "words") for d in (0.2, 0.4, 0.5)]
    rows = [row for pool, d in kinds for row in measure(world, found_by, pool=pool, d=d, seeds=chosen)]
    console.print(_f1_table(rows, threshold=threshold, seeds=seeds))
    false = false_slices(world, rounds=rounds, threshold=threshold)
    console.print(_false_table(false))
    if out:
        document = {
            "machine": f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}",
            "embedder": world.embedder,
            "threshold": threshold,
            "items": len(world.texts),
            "clusters": len({value for row in world.clusters for value in row[AXIS]}),
            "f1": [asdict(row) for row in rows],
            "false_slices": false,
            "scale": scales,
        }
        out.write_text(json.dumps(document, indent=1) + "\n")


def _f1_table(rows: Sequence[Row], *, threshold: float, seeds: str) -> Table:
    table = Table(title=f"Planted weaknesses on BBH: F1 by items covered, threshold {threshold}, seeds {seeds}")
    for name in ("planted", "d", "search"):
        table.add_column(name)
    for name in ("F1", "95 %", "precision", "recall", "matched F1", "slices", "ours more", "95 % "):
        table.add_column(name, justify="right")
    for row in rows:
        figures = (f"{row.f1:.3f}", f"{row.low:.3f}-{row.high:.3f}", f"{row.precision:.3f}", f"{row.recall:.3f}")
        gain = (f"{row.ours_more:+.3f}", f"{row.ours_more_low:+.3f} to {row.ours_more_high:+.3f}")
        table.add_row(
            row.planted, f"{row.d}", row.search, *figures, f"{row.matched_f1:.3f}", f"{row.reported:.1f}", *gain
        )
    return table


def _false_table(rows: Sequence[dict[str, object]]) -> Table:
    table = Table(title="Rounds with a false slice; every item is right with probability .7")
    for name in ("threshold", "search", "false", "rounds", "share", "95 %"):
        table.add_column(name, justify="left" if name == "search" else "right")
    for row in rows:
        share = float(str(row["false"])) / float(str(row["rounds"]))
        cells = [str(row[name]) for name in ("threshold", "search", "false", "rounds")]
        table.add_row(*cells, f"{share:.3f}", f"{row['low']:.3f}-{row['high']:.3f}")
    return table


def _scale_table(rows: Sequence[dict[str, object]]) -> Table:
    table = Table(title="Search time and memory")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    typer.run(main)
