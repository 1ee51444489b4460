"""Where the wrong solutions of real models on GSM8K go wrong: a slip that arithmetic shows, or one that it does not.

    python benchmarks/steps.py --solutions FOLDER/example_model_solutions.jsonl --json out.json

Each model's solutions become plain JSONL and are read as `mend import-eval --steps arithmetic` reads them: the first
wrong step is the outcome's. Right solutions show how often the checker accuses falsely. Intervals are exact
(Clopper-Pearson, 95 %).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from mendloop.core.records import Outcome
from mendloop.core.stats import clopper_pearson
from mendloop.steps.arithmetic import ArithmeticChecker
from mendloop.steps.supervision import supervise
from mendloop.suites.importers.collecting import Options
from mendloop.suites.importers.reading import read_results

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def measured(path: Path) -> list[dict[str, Any]]:
    """One row a model: counts over its wrong and right solutions."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [_of_model(model, imported(rows, model=model)) for model in MODELS]


def imported(rows: list[dict[str, Any]], *, model: str) -> tuple[Outcome, ...]:
    """A model's solutions as outcomes, through the importer."""
    lines = [
        {
            "id": at,
            "prompt": row["question"],
            "output": row[model]["solution"],
            "target": row["ground_truth"].rpartition("A:")[2].strip(),
            "score": row[model]["is_correct"],
        }
        for at, row in enumerate(rows)
    ]
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{model}.jsonl"
        file.write_text("\n".join(map(json.dumps, lines)))
        return read_results(file, options=Options(steps=("arithmetic",))).outcomes


def _of_model(model: str, outcomes: tuple[Outcome, ...]) -> dict[str, Any]:
    slips: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    at: list[float] = []
    wrong = right = accused = 0
    for outcome in outcomes:
        found = supervise(outcome.prompt, outcome.output, checkers=[ArithmeticChecker()])
        steps.update(verdict.operation or "none" for verdict in found.verdicts)
        if outcome.is_correct:
            right += 1
            accused += outcome.first_wrong_step is not None
            continue
        wrong += 1
        if outcome.first_wrong_step is not None:
            slips[outcome.wrong_operation] += 1
            kinds[found.verdicts[outcome.first_wrong_step].reason.partition(":")[0]] += 1
            at.append(outcome.first_wrong_step / len(found.verdicts))
    slip_count = sum(slips.values())
    return {
        "model": model,
        "wrong_count": wrong,
        "slip_count": slip_count,
        "slip_share": share(slip_count, wrong),
        "not_visible_share": share(wrong - slip_count, wrong),
        "by_operation": {name: {"count": n, "of_wrong": share(n, wrong)} for name, n in slips.most_common()},
        "by_kind": dict(kinds),
        "steps_by_operation": dict(steps.most_common()),
        "mean_place": sum(at) / len(at) if at else None,
        "right_count": right,
        "falsely_accused_share": share(accused, right),
    }


def share(count: int, n: int) -> dict[str, float]:
    """A proportion with n and its interval."""
    interval = clopper_pearson(count, n)
    return {"value": count / n if n else 0.0, "n": n, "low": interval.low, "high": interval.high}


def _shown(value: dict[str, float]) -> str:
    return f"{100 * value['value']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}] n={value['n']:.0f}"


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solutions", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.solutions.is_file():
        raise SystemExit(f"{arguments.solutions} is not there: give the path of GSM8K's example_model_solutions.jsonl")
    rows = measured(arguments.solutions)
    table = Table(
        "model", "wrong: first wrong step is a slip", "wrong: not visible", "by operation", "right, but accused"
    )
    for row in rows:
        operations = ", ".join(f"{name} {entry['count']}" for name, entry in row["by_operation"].items())
        table.add_row(
            row["model"],
            _shown(row["slip_share"]),
            _shown(row["not_visible_share"]),
            operations,
            _shown(row["falsely_accused_share"]),
        )
    Console(width=170).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
