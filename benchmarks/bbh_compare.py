"""Answer-only against chain-of-thought on BIG-Bench Hard: stored answers of code-davinci-002 on the same items.

    python benchmarks/bbh_compare.py --data FOLDER --out FOLDER

FOLDER of the data holds a JSONL file a task: {id, input, target, prediction_answer_only, prediction_chain_of_thought}.
Writes answer-only.parquet, chain-of-thought.parquet (`mend compare` reads them), compare.json and compare.html.
The items are a benchmark's: they are compared here and never trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

from mendloop.comparison.document import as_document, detectable_in_words, p_text, points, verdict
from mendloop.comparison.result import Comparison, Settings, compare
from mendloop.core.records import Outcome
from mendloop.report.compare_page import render_comparison
from mendloop.suites.importers.answers import score_answer
from mendloop.suites.importers.collecting import UNKNOWN_COUNT
from mendloop.suites.importers.outcome_parquet import write

MARKER = "So the answer is"
ANSWER_ONLY, CHAIN_OF_THOUGHT = "answer-only", "chain-of-thought"
WORD_BOUNDS = (16, 64, 128)


def outcomes(data: Path, *, style: str) -> list[Outcome]:
    """Outcomes of one style of prompt; the answer of a chain of thought follows MARKER."""
    return [
        outcome(json.loads(line), task=path.stem, style=style)
        for path in sorted(data.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def outcome(row: dict[str, str], *, task: str, style: str) -> Outcome:
    """One stored answer, scored by exact match."""
    output = row[f"prediction_{style.replace('-', '_')}"]
    score = score_answer(output, row["target"], after=MARKER if style == CHAIN_OF_THOUGHT else "")
    return Outcome(
        item_id=row["id"],
        split="search",
        prompt=row["input"],
        output=output,
        target=row["target"],
        score=score.value,
        prompt_token_count=UNKNOWN_COUNT,
        output_token_count=UNKNOWN_COUNT,
        stop_reason="unknown",
        extraction=score.extraction,
        target_logprob=math.nan,
        repeat_index=0,
        axes={"task": (task,), "answer": (answer_kind(row["target"]),), "length": (length(row["input"]),)},
    )


def answer_kind(target: str) -> str:
    """What form the right answer has."""
    if re.fullmatch(r"\([A-Z]\)", target):
        return "option letter"
    if target in {"Yes", "No", "True", "False", "yes", "no"}:
        return "yes or no"
    return "number" if re.fullmatch(r"-?\d+", target) else "free text"


def length(prompt: str) -> str:
    """Words of the prompt, in classes."""
    words = len(prompt.split())
    bound = next((bound for bound in WORD_BOUNDS if words <= bound), None)
    return f"up to {bound} words" if bound else f"over {WORD_BOUNDS[-1]} words"


def table(comparison: Comparison) -> str:
    """The rows of the tasks as text."""
    lines = [
        f"{'task':<44}{'n':>5}{'first':>8}{'second':>8}{'difference':>12}{'95 % interval':>18}{'p':>8}{'p Holm':>8}"
    ]
    for row in (row for row in comparison.rows if row.axis == "task"):
        d = row.difference
        interval = f"{points(d.interval.low)} … {points(d.interval.high)}"
        lines.append(
            f"{row.value:<44}{d.n:>5}{d.first_mean:>8.1%}{d.second_mean:>8.1%}{points(d.value):>12}{interval:>18}"
            f"{p_text(d.p_value):>8}{p_text(row.p_holm):>8}"
        )
    return "\n".join(lines)


def main() -> None:
    """Make both files, compare them, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sets = {style: outcomes(options.data, style=style) for style in (ANSWER_ONLY, CHAIN_OF_THOUGHT)}
    for style, rows in sets.items():
        write(options.out / f"{style}.parquet", rows)
        without = sum(row.extraction == "none" for row in rows)
        print(f"{style}: {len(rows)} items, {without} without an answer that could be extracted")
    settings = Settings(by=("answer", "length"), anytime=True)
    comparison = compare(
        sets[ANSWER_ONLY], sets[CHAIN_OF_THOUGHT], names=(ANSWER_ONLY, CHAIN_OF_THOUGHT), settings=settings
    )
    document = json.dumps(as_document(comparison), indent=1, ensure_ascii=False)
    (options.out / "compare.json").write_text(document, encoding="utf-8")
    (options.out / "compare.html").write_text(render_comparison(comparison), encoding="utf-8")
    print(table(comparison), verdict(comparison), detectable_in_words(comparison), sep="\n")


if __name__ == "__main__":
    main()
