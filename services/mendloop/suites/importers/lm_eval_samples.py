"""lm-evaluation-harness's `--log_samples` JSONL: generate_until, multiple_choice and loglikelihood. Knows its fields.

Read without lm_eval: the files are plain, and their fields have been stable over its releases since 0.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mendloop.core.records import Outcome
from mendloop.suites.importers.collecting import (
    UNKNOWN_COUNT,
    BadRow,
    Collector,
    OnBytes,
    axis_values,
    checked_score,
    checked_target,
    json_lines,
)

FORMAT = "lm-eval"
MARKS = frozenset({"doc_id", "resps", "arguments"})
"""Fields by which a line is known as a sample of lm_eval."""
NO_MATCH = "[invalid]"
"""What its regex filters return where nothing matches."""
_FILE_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T.*")


class _Choice(NamedTuple):
    text: str
    logprob: float
    is_greedy: bool


def read(path: Path, into: Collector, *, on_bytes: OnBytes) -> None:
    """Read one file, which holds one task. Lines of other filters than the one chosen are counted."""
    into.start(FORMAT)
    named = _FILE_NAME.fullmatch(path.stem)
    task = named["task"] if named else path.stem
    chosen: dict[str, str] = {"filter": into.options.filter, "metric": into.options.metric}
    for place, parse in json_lines(path, on_bytes=on_bytes):
        into.read(place, partial(_outcome, parse, task=task, chosen=chosen, into=into))


def _outcome(
    parse: Callable[[], dict[str, Any]], *, task: str, chosen: dict[str, str], into: Collector
) -> Outcome | None:
    """The outcome of a line; None for a line of another filter."""
    row = parse()
    own = str(row.get("filter", "none"))
    chosen["filter"] = chosen["filter"] or own
    if own != chosen["filter"]:
        into.note(f"line of filter {own!r} left out ({chosen['filter']!r} is read)")
        return None
    if missing := MARKS - row.keys():
        raise BadRow("no lm_eval sample", f"there is no field {sorted(missing)[0]!r}; write it with --log_samples")
    chosen["metric"] = chosen["metric"] or _first_metric(row)
    requests, choices = _requests(row), _choices(row)
    target = checked_target(row.get("target"))
    logprob = math.nan
    if choices:
        target, logprob = _gold(target, choices)
        output = _answered(choices)
    else:
        responses = row["resps"][0] if row["resps"] and isinstance(row["resps"][0], list) else row["resps"]
        output = str(responses[0]) if responses else ""
        if len(responses) > 1:
            into.note("further repeat without a score of its own", len(responses) - 1)
    return Outcome(
        item_id=f"{task}/{row['doc_id']}",
        split="search",
        prompt=str(requests[0][0]) if requests else "",
        output=output,
        target=target,
        score=_score(row, chosen["metric"]),
        prompt_token_count=UNKNOWN_COUNT,
        output_token_count=UNKNOWN_COUNT,
        stop_reason="unknown",
        extraction=_extraction(row, is_choice=bool(choices)),
        target_logprob=logprob,
        repeat_index=0,
        axes={"task": (task,), **axis_values(row.get("doc") or {}, into.options)},
    )


def _score(row: Mapping[str, Any], metric: str) -> float:
    if metric not in row:
        raise BadRow("no such metric", f"there is no metric {metric!r}; there are {', '.join(row.get('metrics', []))}")
    return checked_score(row[metric], name=metric)


def _first_metric(row: Mapping[str, Any]) -> str:
    """The first metric that can be a score; a perplexity is none."""
    names = list(row.get("metrics") or [])
    for name in names:
        value = row.get(name)
        if isinstance(value, bool | int | float) and not value < 0 and not value > 1:  # NaN is told as a bad score
            return str(name)
    raise BadRow("no score", f"no metric of {names} is a score of 0..1; name one with --metric")


def _requests(row: Mapping[str, Any]) -> list[list[Any]]:
    """Arguments of each request, in order: {"gen_args_0": {"arg_0": ...}} or, before 0.4.3, lists."""
    arguments = row["arguments"]
    parts = arguments.values() if isinstance(arguments, dict) else arguments
    return [list(part.values()) if isinstance(part, dict) else list(part) for part in parts]


def _choices(row: Mapping[str, Any]) -> list[_Choice]:
    """The options with their log-likelihoods; empty for a generated text. Raises BadRow for rolling likelihoods."""
    responses = row.get("filtered_resps") or []
    if responses and all(isinstance(answer, list) and len(answer) == 2 for answer in responses):
        requests = _requests(row)[: len(responses)]
        is_by_text = len({str(request[1]) for request in requests}) == len(requests)
        pairs = zip(requests, responses, strict=False)
        return [_Choice(str(r[1] if is_by_text else r[0]).strip(), float(a[0]), str(a[1]) == "True") for r, a in pairs]
    if any(len(request) < 2 for request in _requests(row)):
        raise BadRow("no score", "a rolling log-likelihood is no answer to an item; import another task")
    return []


def _gold(target: str, choices: Sequence[_Choice]) -> tuple[str, float]:
    """Text and log-probability of the right option; lm_eval takes a target of digits as its index."""
    if len(choices) == 1:
        return target.strip() or target, choices[0].logprob
    if target.isdigit() and int(target) < len(choices):
        gold = choices[int(target)]
        return gold.text or target, gold.logprob
    gold_or_none = next((choice for choice in choices if choice.text == target.strip()), None)
    return target, gold_or_none.logprob if gold_or_none else math.nan


def _answered(choices: Sequence[_Choice]) -> str:
    """The likeliest option; of a single continuation, whether greedy decoding gives it."""
    if len(choices) == 1:
        return choices[0].text if choices[0].is_greedy else ""
    return max(choices, key=lambda choice: choice.logprob).text


def _extraction(row: Mapping[str, Any], *, is_choice: bool) -> str:
    if is_choice:
        return "loglikelihood"
    return "none" if NO_MATCH in (row.get("filtered_resps") or []) else f"filter:{row.get('filter', 'none')}"
