"""The answer in an output, and whether it is the target: the scorer of rows that carry no score. Knows texts only."""

from __future__ import annotations

from mendloop.core.records import Score

NO_ANSWER = "none"


def score_answer(output: str, target: str, *, after: str = "") -> Score:
    """Exact match of the answer and the target, spaces at the ends and one full stop at the end aside.

    after: the answer is what follows the last occurrence of this text, to the end of its line; an output without it
    scores 0 with the extraction "none". Without after the whole output is the answer.
    """
    if not after:
        return Score(float(_plain(output) == _plain(target)), "whole" if output.strip() else NO_ANSWER)
    _, found, rest = output.rpartition(after)
    lines = rest.strip().splitlines()
    if not found or not lines:
        return Score(0.0, NO_ANSWER)
    return Score(float(_plain(lines[0]) == _plain(target)), f"after:{after}")


def _plain(text: str) -> str:
    return text.strip().removesuffix(".").strip()
