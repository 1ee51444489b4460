"""What a task family offers so that faults can be planted in it: data with axes, a model to train, and its own faults.

Knows examples and items; knows neither how a fault is planted nor how it is found.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
from mendloop.core.tasks import Conditions, Options
from mendloop.diagnostician.domain.causes import Cause


class Size(NamedTuple):
    """Width and depth of a model."""

    hidden_size: int
    layer_count: int


@dataclass(frozen=True, slots=True)
class Place:
    """A slice in which faults can be planted, and the causes that it suits."""

    conditions: Conditions
    causes: frozenset[Cause]
    terms: tuple[str, ...] = ()
    """Words whose complete removal from the corpus makes the slice a knowledge gap; empty where it suits none."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is fixed about a family. settings trains a healthy model of size from an untrained one."""

    name: str
    task_name: str
    template: str
    other_template: str
    """Another template of the same words: a training that uses it does not fit the declared one."""
    axes: tuple[str, ...]
    settings: TrainSettings
    size: Size
    small_size: Size
    """Too small to learn the healthy corpus."""
    max_new_tokens: int
    """Room for every right output and some more."""
    task_options: Options = field(default_factory=dict)
    scorer_options: Mapping[Cause, Options] = field(default_factory=dict)
    """Task options that make the suite's scorer faulty: SCORER_BUG reads something else, EXTRACTION_FAILURE nothing."""


class Family(Protocol):
    """A task family with a healthy corpus from which a small model learns its items. Everything comes from seeds."""

    @property
    def traits(self) -> Traits:
        """What is fixed."""

    def corpus(self, seed: int) -> list[Example]:
        """The healthy training corpus, each example with its axes; no prompt twice."""

    def items(self, seed: int, *, count: int) -> list[Item]:
        """Evaluation items with their axes, alternately of search and confirm, at most count: a small family has fewer.

        None of them is a prompt of the corpus of the same seed. A target is the whole worked completion.
        """

    def build_model(self, directory: Path, *, seed: int, size: Size | None = None) -> Path:
        """Write an untrained checkpoint with its tokenizer; size is traits.size where it is not given."""

    def places(self, seed: int) -> Sequence[Place]:
        """Slices for planting, in an order drawn by the seed."""

    def answer_only(self, example: Example) -> Example:
        """The example with its answer and no steps; the example itself where it has no steps."""

    def wrong_label(self, example: Example, *, rng: random.Random) -> Example:
        """The example with a plausible wrong completion, steps and answer, e.g. one operation done as another one."""

    def unusual(self, prompt: str) -> str:
        """The prompt in words that the healthy corpus never uses; the answer is the same."""

    def wrapped(self, prompt: str, *, style: int) -> str:
        """The prompt in a format that the healthy corpus never has: affixes, case or spelling. Any style from 0 on."""
