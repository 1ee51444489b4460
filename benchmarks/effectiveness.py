"""Does targeted data beat its controls? Two planted weaknesses a world, five arms at equal budgets, paired by seed.

python benchmarks/effectiveness.py --quick        a few minutes: two families, two seeds, one budget
python benchmarks/effectiveness.py --seeds 8      the published table; stop it and start it again as you like
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from effectiveness_arms import ARMS, DIRECT, ORACLE, OURS, RANDOM, REPLAY_SHARE
from effectiveness_cells import Wanted, base_of, is_kept, make_cells, read_cell
from effectiveness_families import PUBLISHED, TRAITS
from effectiveness_scale import ScaleRow, scale_row
from effectiveness_scores import Accuracy, ArmRow, Bars, Cell, arm_row, bars_of, share_of
from effectiveness_tables import ALL_BUDGETS, draw, print_bars, print_rows, print_scale
from effectiveness_worlds import LARGE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).parent
QUICK_FAMILIES, QUICK_SEEDS = ("modular", "facts"), 2


def cells_of(family: str, seed: int, budgets: Sequence[int]) -> list[Wanted]:
    """The cells of a world, its base first."""
    arms = [Wanted(family, seed, arm, budget) for budget in budgets for arm in ARMS]
    return [base_of(family, seed), *arms]


def make_all(units: Sequence[Sequence[Wanted]], *, cache: Path, workers: int, console: Console) -> None:
    """Make what is missing, a unit (cells of one world) a process at a time."""
    cache.mkdir(parents=True, exist_ok=True)
    total = sum(len(unit) for unit in units)
    waiting = [unit for unit in units if not all(is_kept(cell, cache) for cell in unit)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ProcessPoolExecutor(
        workers, mp_context=get_context("spawn")
    ) as pool:  # fmt: skip
        bar = progress.add_task("trained and measured models", total=total)
        running: set[Future[None]] = {
            pool.submit(make_cells, unit[0].family, unit[0].seed, unit, cache) for unit in waiting
        }
        try:
            while running:
                done, running = wait(running, timeout=2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                progress.update(bar, completed=sum(is_kept(cell, cache) for unit in units for cell in unit))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            console.print(f"stopped; every finished model is kept in {cache}: the same command goes on from there")
            raise
        progress.update(bar, completed=total)


def figures(
    families: Sequence[str], seeds: Sequence[int], *, is_quick: bool, cache: Path
) -> tuple[list[ArmRow], list[Bars], list[Cell]]:
    """Rows and bars of every family and budget, and of the mean over its budgets."""
    rows, bars, cells = [], [], []
    for family in families:
        by_budget = {
            budget: {arm: [read_cell(Wanted(family, seed, arm, budget), cache) for seed in seeds] for arm in ARMS}
            for budget in budgets_of(family, is_quick=is_quick)
        }
        cells += [cell for arms in by_budget.values() for own in arms.values() for cell in own]
        if len(by_budget) > 1:
            by_budget[ALL_BUDGETS] = {arm: _averaged([arms[arm] for arms in by_budget.values()]) for arm in ARMS}
        for arms in by_budget.values():
            found = {arm: arm_row(own, arms[OURS]) for arm, own in arms.items()}
            share = share_of([cell.gain for cell in arms[OURS]], [cell.gain for cell in arms[ORACLE]])
            rows += found.values()
            bars.append(bars_of(found, share=share, ours=OURS, controls=(RANDOM, DIRECT)))
    return rows, bars, cells


def budgets_of(family: str, *, is_quick: bool) -> tuple[int, ...]:
    """Numbers of new examples; the quick run has the middle one."""
    budgets = TRAITS[family].budgets
    return budgets[len(budgets) // 2 :][:1] if is_quick else budgets


def _averaged(by_budget: Sequence[Sequence[Cell]]) -> list[Cell]:
    """One cell a seed: the mean over the budgets."""
    found = []
    for same_seed in zip(*by_budget, strict=True):
        after = Accuracy(*(sum(values) / len(values) for values in zip(*(c.after for c in same_seed), strict=True)))
        examples = sum(cell.facts["examples"] for cell in same_seed) / len(same_seed)
        weak = [sum(sum(cell.facts["weak_shares"]) for cell in same_seed) / len(same_seed)]
        facts = {"examples": examples, "weak_shares": weak}
        found.append(replace(same_seed[0], budget=ALL_BUDGETS, after=after, facts=facts))
    return found


def scale_figures(families: Sequence[str], seeds: Sequence[int], *, is_quick: bool, cache: Path) -> list[ScaleRow]:
    """The scale claim at each family's largest budget."""
    rows = []
    for family in families:
        budget = budgets_of(family, is_quick=is_quick)[-1]
        looped = [read_cell(Wanted(family, seed, OURS, budget), cache) for seed in seeds]
        small, large = (
            [read_cell(replace(base_of(family, seed), size=size), cache) for seed in seeds]
            for size in (base_of(family, 0).size, LARGE)
        )
        rows.append(scale_row(looped, small, large))
    return rows


def main(
    families: Annotated[str, typer.Option(help="Task families, with commas; there is scan, too.")] = ",".join(
        PUBLISHED
    ),
    seeds: Annotated[int, typer.Option(help="Worlds of each family. The exact test needs six to reach p < .05.")] = 8,
    first_seed: Annotated[int, typer.Option(help="First seed. Settings were tried on seeds from 100 on.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Two families, two seeds, one budget, no scale.")] = False,
    scale: Annotated[int, typer.Option(help="Seeds of the scale claim (0: none); its large models take longest.")] = 3,
    workers: Annotated[int, typer.Option(help="Processes, each with one thread.")] = 1,
    cache: Annotated[Path, typer.Option(help="Where finished models' figures are kept.")] = HERE.parent
    / ".mendloop/effectiveness",
    out: Annotated[Path, typer.Option(help="Folder for effectiveness.json and .png.")] = HERE / "results",
) -> None:
    """Measure what targeted data gains against its controls.

    A world withholds one slice of a task from its corpus, leaves three examples of another one, and trains a small
    base from scratch. Every arm then trains that base in the same number of steps and tokens on as many new examples
    and the same share of replay:

    mendloop: slices that the evaluator's search finds on its own items, examples split over them by failures, from
    the pool and the teacher through the data engine's funnel and selection. It is told nothing about the weaknesses,
    and no diagnosis is run: every weak slice is taken for a data weakness.

    random: from the pool, which has the task's distribution. directly-sampled: from the teacher, without a target.
    failure-copying: the teacher's variants of the pool's examples most like each failed item. oracle: half of the
    budget from each withheld slice, at random.

    Gains are on fresh items of the withheld slices, the mean of both; the loss is on fresh items of neither. Intervals
    are Student's over seeds, p is the exact two-sided sign-flip test over seeds, not corrected for the number of rows.
    `all` budgets is the mean over the budgets of each seed. Finished models are kept in the cache: Ctrl-C loses none.
    """
    console = Console(width=170)
    chosen = QUICK_FAMILIES if quick and families == ",".join(PUBLISHED) else tuple(families.split(","))
    numbers = range(first_seed, first_seed + (min(seeds, QUICK_SEEDS) if quick else seeds))
    large_numbers = numbers[: 0 if quick else scale]
    units = [cells_of(one, seed, budgets_of(one, is_quick=quick)) for seed in numbers for one in chosen]
    units += [[replace(base_of(one, seed), size=LARGE)] for seed in large_numbers for one in chosen]
    make_all(units, cache=cache, workers=workers, console=console)
    rows, bars, cells = figures(chosen, numbers, is_quick=quick, cache=cache)
    scaled = scale_figures(chosen, large_numbers, is_quick=quick, cache=cache) if large_numbers else []
    print_rows(rows, console=console)
    print_bars(bars, console=console)
    print_scale(scaled, console=console)
    out.mkdir(parents=True, exist_ok=True)
    name = "effectiveness-quick" if quick else "effectiveness"
    document = _document(numbers, rows=rows, bars=bars, cells=cells, scaled=scaled)
    (out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    draw(rows, out / f"{name}.png")


def _document(
    seeds: Sequence[int],
    *,
    rows: Sequence[ArmRow],
    bars: Sequence[Bars],
    cells: Sequence[Cell],
    scaled: Sequence[ScaleRow],
) -> dict[str, object]:
    families = dict.fromkeys(row.family for row in rows)
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "seeds": list(seeds),
        "replay_share": REPLAY_SHARE,
        "settings": {
            one: {"base": TRAITS[one].base.model_dump(), "fix": TRAITS[one].fix.model_dump()} for one in families
        },
        "rows": [asdict(row) for row in rows],
        "bars": [asdict(bar) | {"passes": bar.passes} for bar in bars],
        "scale": [asdict(row) for row in scaled],
        "cells": [_cell(cell) for cell in cells],
    }


def _cell(cell: Cell) -> dict[str, object]:
    facts = {name: cell.facts[name] for name in ("weaknesses", "targets", "examples", "weak_shares", "tokens", "drops")}
    before, after = cell.before._asdict(), cell.after._asdict()
    named = {"family": cell.family, "seed": cell.seed, "budget": cell.budget, "arm": cell.arm}
    return {**named, "before": before, "after": after, **facts}


if __name__ == "__main__":
    typer.run(main)
