"""A world before it is made: what is trained, and how it is evaluated. A fault replaces parts of it.

Pure values: knows neither models nor files. Its hashes say whether two worlds, or their trainings, are the same.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

from mendloop.core.events import stable_hash
from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
from mendloop.core.tasks import Conditions, Options
from mendloop.core.training import counted_settings
from mendloop.examples.faults.family import Family, Place, Size

VERSION = 1
"""Raised where the same plan would train or evaluate to something else."""
ITEM_COUNT = 640
ATTEMPT_STRIDE = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be trained and evaluated."""

    family: Family
    seed: int
    corpus: tuple[Example, ...]
    items: tuple[Item, ...]
    settings: TrainSettings
    training_template: str
    """The template of the training; the evaluation always uses the family's own."""
    max_new_tokens: int
    task_options: Options
    size: Size | None = None
    hidden_share: float = 0.0
    """Share of each completion's tokens, from the first, that carry no loss."""
    start: Plan | None = None
    """The training from whose checkpoint this one begins; None begins with random weights."""
    conditions: Conditions | None = None
    """The slice in which the faults lie; None where they touch the whole suite."""
    attempt: int = 0
    """Raised to train again from other random weights, where the first training failed by itself."""
    is_corpus_faulty: bool = False
    """Whether a healthy start checkpoint would hide what is wrong with the corpus."""
    touched: frozenset[str] = frozenset()
    """Items that a fault of the evaluation has changed; the next one takes others."""
    weight_noise: float = 0.0
    """Noise on the trained weights, as a share of each matrix's standard deviation: a cause outside the list."""
    flaky_share: float = 0.0
    """Share of outputs that are not the model's own: a cause outside the list."""

    @property
    def training_seed(self) -> int:
        """Of the random weights and the order of the examples."""
        return self.seed + ATTEMPT_STRIDE * self.attempt

    @property
    def training_sha(self) -> str:
        """Hash of everything that the trained checkpoint depends on."""
        values = {
            "version": VERSION,
            "family": self.family.traits.name,
            "seed": self.training_seed,
            "settings": counted_settings(self.settings),
            "template": self.training_template,
            "size": self.size or self.family.traits.size,
            "hidden_share": self.hidden_share,
            "weight_noise": self.weight_noise,
            "start": self.start.training_sha if self.start else "",
        }
        rows = [f"{row.prompt}\t{row.completion}" for row in self.corpus]
        return stable_hash("fault-training", json.dumps(values, sort_keys=True), *rows)

    @property
    def sha(self) -> str:
        """Hash of the whole world."""
        values = {
            "options": dict(self.task_options),
            "max_new_tokens": self.max_new_tokens,
            "flaky_share": self.flaky_share,
            "conditions": self.conditions,
        }
        rows = [f"{row.item_id}\t{row.prompt}\t{row.target}" for row in self.items]
        return stable_hash("fault-world", self.training_sha, json.dumps(values, sort_keys=True, default=list), *rows)

    def evaluated_as(self, other: Plan) -> Plan:
        """The same training under the other plan's evaluation."""
        return replace(
            self,
            items=other.items,
            task_options=other.task_options,
            max_new_tokens=other.max_new_tokens,
            flaky_share=other.flaky_share,
        )

    def evaluates_as(self, other: Plan) -> bool:
        """Whether both plans have the same evaluation."""
        return self.evaluated_as(other) == self

    def retried(self) -> Plan:
        """The same plan from other random weights."""
        return replace(self, attempt=self.attempt + 1)

    def without_weight_noise(self) -> Plan:
        """The same plan with its weights as they were trained."""
        return replace(self, weight_noise=0.0)


class Dose(NamedTuple):
    """How a fault is planted. place is where; a fault of the whole suite does not look at it."""

    severity: float
    place: Place
    rng: random.Random

    def scaled(self, ends: tuple[float, float]) -> float:
        """The value between the ends: the first at severity 0, the second at 1."""
        return ends[0] + self.severity * (ends[1] - ends[0])


def healthy_plan(family: Family, *, seed: int, item_count: int = ITEM_COUNT) -> Plan:
    """The family as it is, without a fault."""
    traits = family.traits
    return Plan(
        family=family,
        seed=seed,
        corpus=tuple(family.corpus(seed)),
        items=tuple(family.items(seed, count=item_count)),
        settings=traits.settings,
        training_template=traits.template,
        max_new_tokens=traits.max_new_tokens,
        task_options=traits.task_options,
    )
