"""Readers of evaluation logs made elsewhere, as a public module: lm-evaluation-harness, inspect_ai, JSONL, Parquet.

    from mendloop import eval_log

    log = eval_log.read("results/samples_gsm8k.jsonl")
    print(log.accuracy, log.accuracy_interval, log.dropped)
    for outcome in log.outcomes: ...

docs/outcomes.md documents the formats and what each part of an outcome means.
"""

from __future__ import annotations

from pathlib import Path

from mendloop.core.errors import InvalidResults
from mendloop.core.records import Outcome
from mendloop.core.stats import Interval
from mendloop.suites.importers.collecting import Imported as EvalLog
from mendloop.suites.importers.collecting import OnBytes
from mendloop.suites.importers.collecting import Options as ReadOptions
from mendloop.suites.importers.reading import FORMATS, Format, read_results

__all__ = [
    "FORMATS",
    "EvalLog",
    "Format",
    "Interval",
    "InvalidResults",
    "Outcome",
    "ReadOptions",
    "read",
    "read_inspect",
    "read_lm_eval",
    "write_parquet",
]


def read(
    path: Path | str,
    *,
    format: Format = "auto",
    options: ReadOptions | None = None,
    on_bytes: OnBytes = lambda count: None,
) -> EvalLog:
    """The outcomes of one evaluation: a file, or a folder whose files together are one evaluation.

    on_bytes is told how many bytes were read. Raises InvalidResults, which names file, line or sample, field and value.
    """
    return read_results(Path(path), format_name=format, options=options, on_bytes=on_bytes)


def read_lm_eval(path: Path | str, *, options: ReadOptions | None = None) -> EvalLog:
    """The outcomes of lm-evaluation-harness samples (`--log_samples`). Raises InvalidResults."""
    return read(path, format="lm-eval", options=options)


def read_inspect(path: Path | str, *, options: ReadOptions | None = None) -> EvalLog:
    """The outcomes of an inspect_ai log (.eval or .json; needs mendloop[inspect]). Raises InvalidResults."""
    return read(path, format="inspect", options=options)


def write_parquet(path: Path | str, log: EvalLog) -> int:
    """Write the outcomes as one Outcome Parquet file, which every command reads; the bytes written."""
    from mendloop.suites.importers.outcome_parquet import write

    return write(Path(path), log.outcomes)
