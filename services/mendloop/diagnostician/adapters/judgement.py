"""The judge that this installation ships, and when it lets probing stop. The one place that chooses it."""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.diagnostician.domain.probing import IsClear
from mendloop.diagnostician.domain.verdict import Judge, is_clear, judge


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge with its own rule of when the evidence is clear."""

    judge: Judge
    is_clear: IsClear


def load_judgement() -> Judgement:
    """The rule; a calibrated judge takes its place where its parameters ship."""
    return Judgement(judge, is_clear)
