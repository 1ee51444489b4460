"""What a reader asks of outcomes and gets: which ones, each with why it failed and what the baseline said to it.

Knows outcomes as values; knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["all", "wrong", "right", "broke", "fixed"]
STATUSES: tuple[Status, ...] = ("all", "wrong", "right", "broke", "fixed")
OF_A_CHANGE = ("broke", "fixed")
RIGHT = 1.0
LONGEST_TEXT = 20_000
"""Characters of a text that a page shows."""


@dataclass(frozen=True, slots=True)
class OutcomeFilter:
    """Which outcomes: by status (broke: right on the baseline and wrong now), slice and words in any text."""

    status: Status = "all"
    conditions: tuple[tuple[str, str], ...] = ()
    q: str = ""


@dataclass(frozen=True, slots=True)
class Before:
    """The baseline's answer to the same item."""

    output: str
    score: float


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """One outcome. before is None where the baseline was not asked this item; cut names texts that are longer than
    what is shown."""

    item_id: str
    repeat_index: int
    prompt: str
    target: str
    output: str
    score: float
    is_right: bool
    stop_reason: str
    failure: str
    axes: Mapping[str, tuple[str, ...]]
    before: Before | None
    cut: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExampleLine:
    """One training example of a batch. rejected is the worse answer where the batch holds preferences, else empty."""

    prompt: str
    completion: str
    rejected: str
    source: str
    slice_id: str


def why_failed(
    score: float, *, stop_reason: str, extraction: str, first_wrong_step: int | None, wrong_operation: str
) -> str:
    """Why an outcome is not right, as far as its scorer and its end tell; empty for a right one."""
    if score >= RIGHT:
        return ""
    if first_wrong_step is not None:
        operation = f" ({wrong_operation})" if wrong_operation else ""
        return f"step {first_wrong_step + 1} is wrong{operation}"
    if stop_reason == "length":
        return "cut off at the length limit"
    if extraction == "none":
        return "no answer found in the output"
    return "partly right" if score > 0 else "wrong answer"


def shown(text: str) -> str:
    """What a page shows of a text."""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT]
