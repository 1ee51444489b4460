"""What the gates let through and what they turn away, by simulation: forgetting, harmless change, overfitting, rounds.

The last table says how large a slice must be, so that a loss of so many points in it is not let through.

    python benchmarks/gates.py --runs 200

Each run draws 900 open items on four axes (15 slices of 45 to 540 items), 300 sealed ones and a twin of each target
item, and puts a candidate before the gates as the controller does (`judge_candidate`). The target is a tenth of the
items. Items flip both ways with the churn; what is planted comes on top. Intervals are exact (Clopper-Pearson, 95 %).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mendloop.controller.domain.gates import protected_gates, sealed_gates, target_gates
from mendloop.controller.domain.judgement import judge_candidate, passed
from mendloop.controller.domain.levels import Standing
from mendloop.controller.domain.pairs import Counts, Pair
from mendloop.controller.domain.records import Conditions, GateAnswer
from mendloop.controller.domain.twins import TwinCounts
from mendloop.core.recipe import Recipe
from mendloop.core.stats import clopper_pearson

RESULTS = Path(__file__).parent / "results"
SHARES = ((0.25, 0.25, 0.25, 0.25), (0.5, 0.3, 0.2), (0.4, 0.3, 0.2, 0.1), (0.6, 0.25, 0.1, 0.05))
TARGET: Conditions = (("a2", "3"),)
HIT = (1, 1)
"""Axis and value of the slice that loses: three tenths of the items."""
OPEN, SEALED = 900, 300
RIGHT, WEAK = 0.93, 0.10
SIZES, LOSSES = (100, 200, 300, 400, 600, 1000), (0.05, 0.10, 0.15)
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a training did: shares of items, in truth."""

    gain: float = 0.0
    """Of wrong target items that it now gets right, fresh ones too."""
    learnt: float = 0.0
    """Of public target items that it knows by heart."""
    loss: float = 0.0
    """Of items of one slice, three tenths of the suite, that it lost."""
    loss_everywhere: float = 0.0
    """Of all items outside the target that it lost."""
    churn: float = 0.03


@dataclass(frozen=True, slots=True)
class Scenario:
    """A candidate, the rules that it meets, and whether they should let it through."""

    name: str
    candidate: Candidate
    is_good: bool
    rounds: int = 1
    sealed: int = SEALED
    twins: bool = True


USEFUL = Candidate(gain=0.45)
SCENARIOS = (
    Scenario("useful and harmless", USEFUL, True),
    Scenario("useful and harmless, churn 5.5 %", replace(USEFUL, churn=0.055), True),
    Scenario("useful and harmless, one of 5 rounds", USEFUL, True, rounds=5),
    Scenario("forgets 5 points of a slice", replace(USEFUL, loss=0.05), False),
    Scenario("forgets 10 points of a slice", replace(USEFUL, loss=0.10), False),
    Scenario("forgets 15 points of a slice", replace(USEFUL, loss=0.15), False),
    Scenario("forgets 20 points of a slice", replace(USEFUL, loss=0.20), False),
    Scenario("forgets 5 points everywhere", replace(USEFUL, loss_everywhere=0.05), False),
    Scenario("forgets 10 points everywhere", replace(USEFUL, loss_everywhere=0.10), False),
    Scenario("no gain", Candidate(), False),
    Scenario("learnt the public suite", Candidate(learnt=0.6), False),
    Scenario("learnt it; twins alone (no sealed items)", Candidate(learnt=0.6), False, sealed=0),
    Scenario("learnt it; sealed items alone (no twins)", Candidate(learnt=0.6), False, twins=False),
    Scenario("learnt it; neither", Candidate(learnt=0.6), False, sealed=0, twins=False),
    Scenario("half learnt, half true gain; twins alone", Candidate(gain=0.3, learnt=0.4), False, sealed=0),
    Scenario("small true gain, twins and sealed", Candidate(gain=0.15), True),
)


def main(
    runs: Annotated[int, typer.Option(help="Simulated runs of each scenario.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for gates.json.")] = RESULTS,
) -> None:
    """Simulate every scenario, print the tables, write gates.json."""
    rows = [simulate(scenario, runs=runs, seed=seed + at) for at, scenario in enumerate(SCENARIOS)]
    over = [
        over_rounds(rounds, is_spent=is_spent, runs=runs * 10, seed=seed)
        for rounds in (1, 3, 10)
        for is_spent in (0, 1)
    ]
    attacks = [attack(queries, is_laddered=ladder, runs=runs, seed=seed) for queries in (10, 50) for ladder in (0, 1)]
    powers = [let_through(n, loss=loss, runs=runs * 5, seed=seed) for n in SIZES for loss in LOSSES]
    _show(rows, over, attacks, powers)
    out.mkdir(parents=True, exist_ok=True)
    document = {"runs": runs, "seed": seed, "candidates": rows, "rounds": over, "attacks": attacks, "power": powers}
    (out / "gates.json").write_text(json.dumps(document, indent=1) + "\n")


def simulate(scenario: Scenario, *, runs: int, seed: int) -> dict[str, Any]:
    """How often the gates let a candidate through, and which gates stop it."""
    rng = np.random.default_rng(seed)
    rules = _rules(scenario)
    failed: Counter[str] = Counter()
    promoted = 0
    for _ in range(runs):
        answers = judge(rng, scenario, rules)
        promoted += passed(answers)
        failed.update({answer.gate for answer in answers if not answer.passed})
    low, high = clopper_pearson(promoted, runs)
    return {
        "scenario": scenario.name,
        "should_pass": scenario.is_good,
        "promoted": promoted,
        "runs": runs,
        "low": low,
        "high": high,
        "stopped_by": dict(failed.most_common()),
    }


def judge(rng: np.random.Generator, scenario: Scenario, rules: Recipe) -> Sequence[GateAnswer]:
    """The answers of every gate about one drawn candidate."""
    axes, aimed, before, after = _measured(rng, OPEN, scenario.candidate, is_public=True)
    names = [{f"a{axis}": (str(values[i]),) for axis, values in enumerate(axes)} for i in range(OPEN)]
    pairs = [Pair(name, bool(b), bool(a)) for name, b, a in zip(names, before, after, strict=True)]
    sealed: dict[Conditions, Counts] = {}
    if scenario.sealed:
        _, inside, was, became = _measured(rng, scenario.sealed, scenario.candidate, is_public=False)
        everything = np.ones(len(was), dtype=bool)
        sealed = {(): _counts(was, became, everything), TARGET: _counts(was, became, inside)}
    _, twin_before, twin_after = _flips(rng, aimed, np.zeros(OPEN, dtype=bool), scenario.candidate, is_public=False)
    cells = 8 * before + 4 * after + 2 * twin_before + 1 * twin_after
    twins = {TARGET: TwinCounts(tuple(int(count) for count in np.bincount(cells[aimed], minlength=16)))}
    return judge_candidate(pairs, targets=[TARGET], sealed=sealed, twins=twins, recipe=rules)


def over_rounds(rounds: int, *, is_spent: int, runs: int, seed: int) -> dict[str, Any]:
    """How often any of a run's candidates without gain passes the test on the targets (90 items, churn 20 %)."""
    rng = np.random.default_rng(seed)
    level = 0.05 / rounds if is_spent else 0.05
    wrongly = 0
    for _ in range(runs):
        flips = rng.binomial(90, 0.2, size=rounds)
        gained = rng.binomial(flips, 0.5)
        counts = [Counts(90, int(n - up), int(up), 0) for n, up in zip(flips, gained, strict=True)]
        wrongly += any(_improves(count, level=level) for count in counts)
    low, high = clopper_pearson(wrongly, runs)
    return {"rounds": rounds, "spent": bool(is_spent), "wrongly": wrongly, "runs": runs, "low": low, "high": high}


def let_through(n: int, *, loss: float, runs: int, seed: int) -> dict[str, Any]:
    """How often a loss in one slice of n items outside the targets passes its gate: one of 15, a third of the suite.

    Churn is 3 %, the margin 5 points, alpha 5 %.
    """
    rng = np.random.default_rng(seed)
    churn = Candidate().churn
    passing = 0
    for _ in range(runs):
        lost, gained, _ = rng.multinomial(n, [churn + loss, churn, 1 - 2 * churn - loss])
        others = rng.multinomial(2 * n, [churn, churn, 1 - 2 * churn])
        own = Counts(n, int(lost), int(gained), n - int(lost + gained))
        outside = Counts(3 * n, int(lost + others[0]), int(gained + others[1]), 0)
        slices = [(TARGET, own), *[((("a", str(at)),), Counts(0, 0, 0, 0)) for at in range(14)]]
        passing += protected_gates(outside, slices, outside=outside, alpha=0.05, margin=0.05)[1].passed
    low, high = clopper_pearson(passing, runs)
    return {"n": n, "loss": loss, "passed": passing, "runs": runs, "low": low, "high": high}


def attack(queries: int, *, is_laddered: int, runs: int, seed: int) -> dict[str, Any]:
    """How often a candidate without gain passes the sealed items when its makers follow their answers.

    The makers try candidates that change 100 sealed target items at random and keep what an answer speaks for: the
    figures where they are told (the boosting attack of Blum & Hardt 2015), a "yes" where not. Their last query is the
    majority of what they kept.
    """
    rng = np.random.default_rng(seed)
    wrongly = 0
    for _ in range(runs):
        wrongly += _attacked(rng, queries, is_laddered=bool(is_laddered))
    low, high = clopper_pearson(wrongly, runs)
    return {"queries": queries, "ladder": bool(is_laddered), "wrongly": wrongly, "runs": runs, "low": low, "high": high}


def _attacked(rng: np.random.Generator, queries: int, *, is_laddered: bool) -> bool:
    n = 100
    before = rng.random(n) < 0.5
    votes = np.zeros(n)
    told: list[bool] = []
    for number in range(queries):
        is_last = number == queries - 1
        after = (votes + rng.normal(0, 1e-6, n) > 0) if is_last else rng.random(n) < 0.5
        counts = _counts(before, after, np.ones(n, dtype=bool))
        standing = Standing(len(told), sum(told), queries if is_laddered else None)
        answer = _sealed(counts, standing=standing)
        told.append(answer.passed)
        if answer.passed:
            return True
        # without figures a "no" says nothing about the items; with them, any gain speaks for the candidate
        weight = 0.0 if is_laddered else answer.after - answer.before
        votes += weight * np.where(after, 1.0, -1.0)
    return False


def _sealed(counts: Counts, *, standing: Standing) -> GateAnswer:
    rules = {"target_count": 1, "is_wanted": True, "design_effect": 1.0, "alpha": 0.05, "margin": 0.05}
    return sealed_gates(counts, [(TARGET, counts)], standing=standing, **rules)[0]  # type: ignore[arg-type]  # one dict


def _improves(counts: Counts, *, level: float) -> bool:
    return target_gates([(TARGET, counts)], alpha=level)[0].passed


def _measured(
    rng: np.random.Generator, n: int, candidate: Candidate, *, is_public: bool
) -> tuple[list[NDArray[np.int64]], Flags, Flags, Flags]:
    axes = [rng.choice(len(share), size=n, p=share) for share in SHARES]
    aimed = axes[2] == 3
    hit = (axes[HIT[0]] == HIT[1]) & ~aimed
    return axes, *_flips(rng, aimed, hit, candidate, is_public=is_public)


def _flips(
    rng: np.random.Generator, aimed: Flags, hit: Flags, candidate: Candidate, *, is_public: bool
) -> tuple[Flags, Flags, Flags]:
    """Whether an item is a target, and whether it is right before and after."""
    n = len(aimed)
    before = rng.random(n) < np.where(aimed, WEAK, RIGHT)
    lost = candidate.churn + candidate.loss_everywhere * ~aimed + candidate.loss * hit
    lose = np.minimum(1.0, lost / np.where(aimed, 1.0, RIGHT))
    gain = np.where(aimed, candidate.gain + candidate.churn * WEAK, candidate.churn / (1 - RIGHT))
    draw = rng.random(n)
    after = np.where(before, draw >= lose, draw < gain)
    if is_public:
        after |= aimed & (rng.random(n) < candidate.learnt)
    return aimed, before, after


def _counts(before: Flags, after: Flags, inside: Flags) -> Counts:
    return Counts(
        n=int(inside.sum()),
        lost=int((before & ~after & inside).sum()),
        gained=int((~before & after & inside).sum()),
        both=int((before & after & inside).sum()),
    )


def _rules(scenario: Scenario) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "simulated",
            "task": "none",
            "base": {"model": "none"},
            "rounds": scenario.rounds,
            "suite": {"axes": ["a0", "a1", "a2", "a3"], "sealed": scenario.sealed, "twins": scenario.twins},
        }
    )


def _show(
    rows: list[dict[str, Any]],
    over: list[dict[str, Any]],
    attacks: list[dict[str, Any]],
    powers: list[dict[str, Any]],
) -> None:
    console = Console(width=150)
    table = Table("candidate", "should pass", "promoted", "95 % interval", "stopped by (runs)", box=None)
    for row in rows:
        stops = ", ".join(f"{gate} {count}" for gate, count in row["stopped_by"].items())
        table.add_row(
            row["scenario"],
            "yes" if row["should_pass"] else "no",
            f"{row['promoted']} of {row['runs']}",
            _interval(row),
            stops,
        )
    console.print(table)
    table = Table("rounds without gain", "alpha", "any passes the target gate", "95 % interval", box=None)
    for row in over:
        alpha = "spent over the rounds" if row["spent"] else "the same each round"
        table.add_row(str(row["rounds"]), alpha, f"{row['wrongly']} of {row['runs']}", _interval(row))
    console.print(table)
    table = Table("queries by an attacker", "sealed items", "no gain, passed", "95 % interval", box=None)
    for row in attacks:
        how = "with a query budget" if row["ladder"] else "figures told, alpha each time"
        table.add_row(str(row["queries"]), how, f"{row['wrongly']} of {row['runs']}", _interval(row))
    console.print(table)
    table = Table("items of the slice", *(f"{loss:.0%} lost" for loss in LOSSES), box=None)
    for n in SIZES:
        shares = [row["passed"] / row["runs"] for row in powers if row["n"] == n]
        table.add_row(str(n), *(f"{share:.2%} pass" for share in shares))
    console.print(table)


def _interval(row: dict[str, Any]) -> str:
    return f"{row['low']:.1%} to {row['high']:.1%}"


if __name__ == "__main__":
    typer.run(main)
