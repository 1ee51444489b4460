"""Worlds and arms of benchmarks/effectiveness.py, on the family of facts with simulated outcomes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mendloop.core.records import Outcome, fingerprint

SEED, BUDGET = 107, 32


@pytest.fixture(scope="module")
def arms() -> ModuleType:
    return import_module("effectiveness_arms")


@pytest.fixture(scope="module")
def world() -> Any:
    return import_module("effectiveness_families").make_world("facts", SEED)


@pytest.fixture(scope="module")
def outcomes(world: Any) -> list[Outcome]:
    """A base that fails exactly on what was withheld."""
    return [
        Outcome(row.item_id, row.split, row.prompt, "", row.target, float(not world.is_weak(row.prompt)), 0, 0,
                "unknown", "", -1.0, 0, axes=row.axes)
        for row in world.items
    ]  # fmt: skip


def test_corpus_pool_and_items_share_no_prompt(world: Any) -> None:
    parts = [world.corpus, world.pool, world.items, world.fresh]

    marks = [fingerprint(row.prompt) for part in parts for row in part]

    assert len(set(marks)) == len(marks)


def test_one_weakness_is_missing_from_the_corpus_and_three_examples_of_the_other_stay(world: Any) -> None:
    first, second = world.weaknesses

    assert not [row for row in world.corpus if first.holds(row.prompt)]
    assert sum(second.holds(row.prompt) for row in world.corpus) == 3


def test_the_pool_has_the_weaknesses_about_as_often_as_the_task(world: Any) -> None:
    in_pool = sum(world.is_weak(row.prompt) for row in world.pool) / len(world.pool)

    assert in_pool == pytest.approx(sum(world.shares[1:]), abs=0.1)


@pytest.mark.parametrize("arm", ["mendloop", "random", "directly-sampled", "failure-copying", "oracle"])
def test_every_arm_gets_the_whole_budget_and_no_evaluation_item(
    arm: str, arms: ModuleType, world: Any, outcomes: list[Outcome]
) -> None:
    batch = arms.make_batch(world, arm, budget=BUDGET, outcomes=outcomes)

    prompts = {fingerprint(row.prompt) for row in batch.examples}
    assert len(prompts) == len(batch.examples) == BUDGET
    assert not prompts & {fingerprint(item.prompt) for item in (*world.items, *world.fresh)}


def test_what_the_search_finds_is_what_was_withheld(arms: ModuleType, world: Any, outcomes: list[Outcome]) -> None:
    batch = arms.make_batch(world, "mendloop", budget=BUDGET, outcomes=outcomes)

    assert all(world.is_weak(row.prompt) for row in batch.examples)
    assert min(arms.composition(world, batch)) > 0.2


def test_a_base_without_failures_orders_nothing(arms: ModuleType, world: Any) -> None:
    right = [
        Outcome(row.item_id, row.split, row.prompt, "", row.target, 1.0, 0, 0, "unknown", "", -1.0, 0, axes=row.axes)
        for row in world.items
    ]

    assert arms.make_batch(world, "mendloop", budget=BUDGET, outcomes=right).examples == ()


def test_trainings_of_all_arms_have_the_same_examples_and_tokens(
    arms: ModuleType, world: Any, outcomes: list[Outcome]
) -> None:
    budget = arms.token_budget(world)
    trained = [
        arms.mixed(world, arms.make_batch(world, arm, budget=BUDGET, outcomes=outcomes), token_budget=budget)
        for arm in ("mendloop", "directly-sampled")
    ]

    counts = {len(rows) for rows in trained}
    assert counts == {world.traits.fix.steps * world.traits.fix.batch_size}
    assert {sum(arms.token_count(world, row) for row in rows) for rows in trained} == {budget}


def test_an_arm_trains_the_base_on_exactly_its_budget_and_is_kept(
    tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = import_module("effectiveness_cells")
    short = {"steps": 3, "batch_size": 8, "warmup_steps": 1}
    traits = replace(
        world.traits, base=world.traits.base.model_copy(update=short), fix=world.traits.fix.model_copy(update=short)
    )
    tiny = replace(world, traits=traits, items=world.items[:40], fresh=world.fresh[:60])
    monkeypatch.setattr(cells, "make_world", lambda family, seed: tiny)
    monkeypatch.setattr(cells, "MOST_TRIES", 1)
    wanted = [cells.base_of("facts", SEED), cells.Wanted("facts", SEED, "directly-sampled", 8)]

    cells.make_cells("facts", SEED, wanted, tmp_path)

    found = cells.read_cell(wanted[1], tmp_path)
    assert found.facts["tokens"] == import_module("effectiveness_arms").token_budget(tiny)
    assert found.facts["examples"] == 8
    monkeypatch.setattr(cells, "_fixed", None)  # a kept cell is not made again
    cells.make_cells("facts", SEED, wanted, tmp_path)


def test_a_run_whose_models_are_all_kept_trains_nothing_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, benchmark = import_module("effectiveness_cells"), import_module("effectiveness")
    right = {"base": (5, 5), "mendloop": (45, 48), "random": (10, 8), "directly-sampled": (9, 10)}
    for seed in range(6):
        wanted = benchmark.cells_of("facts", seed, benchmark.budgets_of("facts", is_quick=False))
        large = [replace(wanted[0], size=import_module("effectiveness_worlds").LARGE)]
        for cell in [*wanted, *large]:
            first, second = right.get(cell.arm, (47, 46))
            document = {
                "parts": [[240, 250], [first + seed, 60], [second, 60], [0, 0]],
                "shares": [0.86, 0.07, 0.07, 0.0],
                "weaknesses": ["a", "b"],
                "parameters": 1_500_000 if cell in large else 145_000,
                "tokens": 300_000 if cell.arm == "base" else 60_000,
                "search_tokens": 9_000,
                "examples": cell.budget,
                "targets": [],
                "drops": {},
                "weak_shares": [0.5, 0.4],
            }
            cell.path(tmp_path).write_text(json.dumps(document))
            assert cells.is_kept(cell, tmp_path)

    benchmark.main("facts", 6, 0, False, 2, 1, tmp_path, tmp_path / "out")

    printed, written = capsys.readouterr().out, json.loads((tmp_path / "out" / "effectiveness.json").read_text())
    assert "failure-copying" in printed
    assert [(row["budget"], row["passes"]) for row in written["bars"]] == [(32, True), (64, True), (0, True)]
    assert written["scale"][0]["large_parameters"] == 1_500_000
    assert len(written["cells"]) == 6 * 5 * 2
    assert (tmp_path / "out" / "effectiveness.png").stat().st_size > 10_000
