"""The nouns of evaluation and training: item, example, outcome. Knows neither files nor models."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Axes = Mapping[str, tuple[str, ...]]
"""Values of an item on each axis; an item may have several values on one axis (two verbs in one command)."""

StopReason = Literal["eos", "length", "stop_string", "unknown"]
"""Why a generation ended; unknown only in outcomes that another tool measured without saying so."""
Split = Literal["search", "confirm", "sealed"]


def fingerprint(prompt: str) -> str:
    """Hex SHA-256 of a prompt in lower case with single spaces: what decontamination compares."""
    return hashlib.sha256(" ".join(prompt.lower().split()).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Item:
    """One evaluation item. Never trained on."""

    item_id: str
    prompt: str
    target: str
    split: Split
    document: str = ""
    """JSON of the source document, where a scorer needs more than the target."""
    axes: Axes = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.item_id or not self.target:
            raise ValueError(f"item {self.item_id!r} needs an id and a target; its target is {self.target!r}")


@dataclass(frozen=True, slots=True)
class Example:
    """One training example."""

    prompt: str
    completion: str
    source: str
    axes: Axes = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt or not self.completion:
            raise ValueError(f"an example of {self.source!r} has an empty prompt or completion: {self.prompt!r}")


@dataclass(frozen=True, slots=True)
class Preference:
    """One preference: of two completions of a prompt, the one that is better."""

    prompt: str
    chosen: str
    rejected: str
    source: str
    axes: Axes = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt or not self.chosen or not self.rejected:
            raise ValueError(f"a preference of {self.source!r} has an empty prompt or answer: {self.prompt!r}")
        if self.chosen == self.rejected:
            raise ValueError(f"a preference of {self.source!r} prefers an answer to itself: {self.prompt!r}")


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's answer: 0 to 1, and which rule found the answer in the output ("none" where no rule did)."""

    value: float
    extraction: str
    candidate_count: int | None = None
    """How many texts in the output could have been the answer; None where the scorer does not count."""
    first_wrong_step: int | None = None
    """Index, from 0, of the first wrong step; None where no step is wrong or steps are not looked at."""
    wrong_operation: str = ""
    """The operation of that step."""

    def __post_init__(self) -> None:
        if math.isnan(self.value) or not 0 <= self.value <= 1:
            raise ValueError(f"the score is {self.value}; scores lie in 0..1")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a checkpoint did with one item."""

    item_id: str
    split: Split
    prompt: str
    output: str
    target: str
    score: float
    prompt_token_count: int
    output_token_count: int
    stop_reason: StopReason
    extraction: str
    target_logprob: float
    """Sum over the target's tokens and the EOS after them, in nats."""
    repeat_index: int
    """0 is the draw that slices and gates count; the others say how much chance is in it."""
    axes: Axes = field(default_factory=dict)
    # What follows was added later: an older table ends before it and reads with these defaults.
    latency_s: float = 0.0
    """Seconds until this output was there, its share of a batch's waiting included; 0 where nobody measured."""
    seed: int = 0
    """Seed of this output's own random numbers; 0 where the output is greedy."""
    candidate_count: int | None = None
    """How many texts in the output could have been the answer; None where the scorer does not count."""
    first_wrong_step: int | None = None
    """Index, from 0, of the first wrong step; None where no step is wrong or steps are not looked at."""
    wrong_operation: str = ""
    """The operation of that step."""
    target_logprobs: tuple[float, ...] = ()
    """Of the target's tokens and, last, of the EOS after them, in nats."""

    def __post_init__(self) -> None:
        if math.isnan(self.score) or not 0 <= self.score <= 1:
            raise ValueError(f"outcome of {self.item_id!r} has the score {self.score}; scores lie in 0..1")

    @property
    def is_correct(self) -> bool:
        """Whether the score is full."""
        return self.score >= 1.0
