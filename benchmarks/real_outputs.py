"""Why a real LLM fails: `mend diagnose` on stored answers, without the model. What it cannot tell it says.

    python benchmarks/real_outputs.py --data FOLDER --out FOLDER

FOLDER of the data holds bbh/ (13 BIG-Bench-Hard tasks, answers of code-davinci-002: answer only and chain of thought)
and gsm8k/example_model_solutions.jsonl (four models). Writes outcomes, verdicts (JSON) and pages. The items are a
benchmark's: they are looked at here and never trained on.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bbh_compare
from rich.console import Console
from rich.table import Table

from mendloop.core.records import Outcome
from mendloop.core.stats import clopper_pearson
from mendloop.diagnostician.adapters.case_folder import CaseFiles, read_case
from mendloop.diagnostician.adapters.judging import shipped_judging
from mendloop.diagnostician.adapters.probe_set import all_probes
from mendloop.diagnostician.adapters.standalone import Bench, Document, as_document, diagnose
from mendloop.report.diagnosis_page import render_diagnosis
from mendloop.steps.arithmetic import ArithmeticChecker
from mendloop.steps.supervision import supervise
from mendloop.suites.importers.collecting import UNKNOWN_COUNT
from mendloop.suites.importers.outcome_parquet import write

GSM8K_MODELS = {"6b_finetuning": "6b_verification", "175b_finetuning": "175b_verification"}
"""A model and the same one with its answer picked among samples by a verifier."""
FINAL = "A:"


def bbh(data: Path, out: Path) -> list[Document]:
    """A verdict for each task of the answers without steps; the chains of thought are the counterfactual."""
    paths = {}
    for style in (bbh_compare.ANSWER_ONLY, bbh_compare.CHAIN_OF_THOUGHT):
        paths[style] = out / f"bbh-{style}.parquet"
        write(paths[style], bbh_compare.outcomes(data, style=style))
    files = CaseFiles(outcomes=paths[bbh_compare.ANSWER_ONLY], variants={"steps": paths[bbh_compare.CHAIN_OF_THOUGHT]})
    contents = read_case(files)
    tasks = sorted({task for row in contents.outcomes for task in row.axes["task"]})
    return [_verdict(contents, (("task", task),)) for task in tasks]


def gsm8k(solutions: Path, out: Path) -> dict[str, Document]:
    """A verdict for each model, with the operation of the first wrong step of its solutions."""
    rows = [json.loads(line) for line in solutions.read_text(encoding="utf-8").splitlines()]
    verdicts = {}
    for model in (*GSM8K_MODELS, *GSM8K_MODELS.values()):
        path = out / f"gsm8k-{model}.parquet"
        write(path, [_gsm8k_outcome(row, model=model, number=number) for number, row in enumerate(rows)])
    for model in (*GSM8K_MODELS, *GSM8K_MODELS.values()):
        picked = GSM8K_MODELS.get(model)
        variants = {"sampled": out / f"gsm8k-{picked}.parquet"} if picked else {}
        contents = read_case(CaseFiles(outcomes=out / f"gsm8k-{model}.parquet", variants=variants))
        wrong = [row for row in contents.outcomes if not row.is_correct]
        verdicts[model] = {**_verdict(contents, ()), "first_wrong": _first_wrong(wrong)}
    return verdicts


def _verdict(contents: Any, conditions: tuple[tuple[str, str], ...]) -> Document:
    bench = Bench(all_probes(), shipped_judging().judge, lambda rows: False)
    return as_document(diagnose(contents.case(conditions), bench=bench), contents=contents)


def _gsm8k_outcome(row: dict[str, Any], *, model: str, number: int) -> Outcome:
    """One solution; its answer follows the last "A:", and its steps carry their arithmetic."""
    solution = row[model]["solution"]
    first = supervise(row["question"], solution, checkers=[ArithmeticChecker()]).first_wrong
    step_count = row["ground_truth"].count("<<")
    return Outcome(
        item_id=f"gsm8k/{number}",
        split="search",
        prompt=row["question"],
        output=solution,
        target=row["ground_truth"].rpartition(FINAL)[2].strip(),
        score=float(row[model]["is_correct"]),
        prompt_token_count=UNKNOWN_COUNT,
        output_token_count=UNKNOWN_COUNT,
        stop_reason="unknown",
        extraction="last A:" if FINAL in solution else "none",
        target_logprob=math.nan,
        repeat_index=0,
        axes={"steps": (str(min(step_count, 6)),)},
        first_wrong_step=first.step.index if first else None,
        wrong_operation=first.operation if first else "",
    )


def _first_wrong(wrong: list[Outcome]) -> Document:
    slips = Counter(row.wrong_operation for row in wrong if row.first_wrong_step is not None)
    return {
        "wrong": len(wrong),
        "with_wrong_step": sum(slips.values()),
        "interval": list(clopper_pearson(sum(slips.values()), len(wrong))),
        "by_operation": dict(slips.most_common()),
        "without_answer": sum(row.extraction == "none" for row in wrong),
    }


def _cause(verdict: Document) -> str:
    return " + ".join((verdict["cause"], *verdict["also"])) + f" ({verdict['confidence']:.2f})"


def _share(verdict: Document, probe: str, measurement: str) -> str:
    rows = [row for row in verdict["evidence"] if row["probe"] == probe and row["measurement"].startswith(measurement)]
    hits, n = sum(row["value"] * row["n"] for row in rows), sum(row["n"] for row in rows)
    if not n:
        return "not measured"
    low, high = clopper_pearson(round(hits), n)
    return f"{hits / n:.2f} [{low:.2f}, {high:.2f}]"


def tables(by_task: list[Document], by_model: dict[str, Document]) -> Iterator[Table]:
    """Both results as text."""
    table = Table(
        "task", "failed", "right with steps", "second scorer accepts", "verdict", title="BIG-Bench Hard", box=None
    )
    for row in by_task:
        rescued = _share(row, "first_steps", "elicited_rescued_share")
        accepted = _share(row, "rescoring", "rescued_share")
        table.add_row(row["slice"], f"{row['failed_count']} of {row['n']}", rescued, accepted, _cause(row))
    yield table
    table = Table(
        "model",
        "failed",
        "with a wrong step",
        "by operation",
        "no answer",
        "right among samples",
        "verdict",
        title="GSM8K",
        box=None,
    )
    for model, row in by_model.items():
        first = row["first_wrong"]
        low, high = first["interval"]
        share = f"{first['with_wrong_step'] / first['wrong']:.2f} [{low:.2f}, {high:.2f}]"
        named = ", ".join(f"{name} {count}" for name, count in first["by_operation"].items())
        sampled = _share(row, "pass_at_k", "any_right_share")
        failed = f"{row['failed_count']} of {row['n']}"
        table.add_row(model, failed, share, named, str(first["without_answer"]), sampled, _cause(row))
    yield table


def main() -> None:
    """Print both tables; write outcomes, verdicts and pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with bbh/ and gsm8k/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    by_task = bbh(arguments.data / "bbh", arguments.out)
    by_model = gsm8k(arguments.data / "gsm8k" / "example_model_solutions.jsonl", arguments.out)
    console = Console(width=180)
    for table in tables(by_task, by_model):
        console.print(table)
    result = {"bbh": by_task, "gsm8k": by_model}
    (arguments.out / "real-outputs.json").write_text(json.dumps(result, indent=1, ensure_ascii=False))
    for name, verdicts in (("bbh", by_task), ("gsm8k", [{**v, "slice": m} for m, v in by_model.items()])):
        page = render_diagnosis(verdicts, title=f"Why it fails: {name}", subtitle="stored outputs, without the model")
        (arguments.out / f"{name}.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
