"""inspect_ai logs (.eval and .json) through its own reader. Knows inspect_ai; needs the extra [inspect]."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mendloop.core.errors import InvalidResults
from mendloop.core.records import Outcome, StopReason
from mendloop.suites.importers.collecting import (
    UNKNOWN_COUNT,
    BadRow,
    Collector,
    OnBytes,
    axis_values,
    checked_score,
    checked_target,
)

FORMAT = "inspect"
_STOPS: Mapping[str, StopReason] = {"stop": "eos", "max_tokens": "length", "model_length": "length"}
_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""inspect_ai's CORRECT, INCORRECT, PARTIAL and NOANSWER (its own value_to_float)."""


def read(path: Path, into: Collector, *, on_bytes: OnBytes) -> None:
    """Read one log. Samples that failed or were not scored are dropped with their reason, as is their count."""
    into.start(FORMAT)
    try:  # here, not on top: other formats are read without the extra, and its import takes seconds
        from inspect_ai.log import read_eval_log, read_eval_log_samples
    except ImportError as error:
        raise InvalidResults(f"{path} is an inspect_ai log: uv pip install 'mendloop[inspect]' to read it") from error
    try:
        header = read_eval_log(str(path), header_only=True)
        if header.status != "success":
            into.note(f"log with the status {header.status!r}: the evaluation did not finish")
        for sample in read_eval_log_samples(str(path), all_samples_required=False):
            _take(sample, task=header.eval.task, place=f"{path.name}, sample {sample.id!r}", into=into)
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise InvalidResults(f"{path} cannot be read as an inspect_ai log: {error}") from error
    on_bytes(path.stat().st_size)


def _take(sample: Any, *, task: str, place: str, into: Collector) -> None:
    if sample.error is not None:
        into.drop("sample that failed with an error in inspect_ai")
        return
    if not sample.scores:
        into.drop("sample without a score in inspect_ai")
        return
    into.read(f"{place}, epoch {sample.epoch}", partial(_outcome, sample, task=task, into=into))


def _outcome(sample: Any, *, task: str, into: Collector) -> Outcome:
    name = into.options.scorer or next(iter(sample.scores))
    if name not in sample.scores:
        raise BadRow("no such scorer", f"there is no scorer {name!r}; there are {', '.join(sample.scores)}")
    if len(sample.scores) > 1:
        into.note(f"sample with {len(sample.scores)} scorers ({name!r} is read)")
    score, usage = sample.scores[name], sample.output.usage
    target = " | ".join(sample.target) if isinstance(sample.target, list) else sample.target
    return Outcome(
        item_id=f"{task}/{sample.id}",
        split="search",
        prompt=_prompt(sample.input),
        output=sample.output.completion,
        target=checked_target(target),
        score=_value(score.value, name=name),
        prompt_token_count=usage.input_tokens if usage else UNKNOWN_COUNT,
        output_token_count=usage.output_tokens if usage else UNKNOWN_COUNT,
        stop_reason=_STOPS.get(str(sample.output.stop_reason), "unknown"),
        extraction=f"scorer:{name}" if score.answer else "none",
        target_logprob=math.nan,
        repeat_index=sample.epoch - 1,
        axes={"task": (task,), **axis_values(sample.metadata or {}, into.options)},
        latency_s=sample.output.time or 0.0,
    )


def _value(value: Any, *, name: str) -> float:
    if isinstance(value, str):
        words = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
        if value in _LETTERS or value.lower() in words:
            return _LETTERS[value] if value in _LETTERS else words[value.lower()]
        try:
            return checked_score(float(value), name=f"scores.{name}.value")
        except ValueError:
            raise BadRow("score is no number", f"field 'scores.{name}.value' is {value!r}; no score of 0..1") from None
    return checked_score(value, name=f"scores.{name}.value")


def _prompt(given: Any) -> str:
    """A prompt as text; a conversation as its turns."""
    if isinstance(given, str):
        return given
    return "\n".join(f"{message.role}: {message.text}" for message in given)


def is_log(path: Path) -> bool:
    """Whether a .json file is a log of inspect_ai (and not, say, the results file of another tool)."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(document, dict) and {"version", "status", "eval"} <= document.keys()
