"""A small task family, sources and a stage for tests of the data generator."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builders import NO_ARTIFACT, event, example, recipe, run_spec
from google.protobuf.message import Message

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.bus.runtime import Event
from mendloop.core.records import Axes, Example, Item, Score
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import Conditions, Options, Task
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref, slice_message
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.data_generator.adapters.pool import PoolSource
from mendloop.data_generator.adapters.teacher import TaskTeacher
from mendloop.data_generator.adapters.teaching import hired
from mendloop.data_generator.domain.collection import Limits
from mendloop.data_generator.handlers import Ports, on_intervention_planned
from mendloop.data_generator.ports import Assignment, Source, Student, Teaching
from mendloop.v1 import common_pb2, diagnosis_pb2, intervention_pb2

LIMITS = Limits(candidates=2_000, survivors=500, fruitless=300)
BIG = (("size", "big"),)
SMALL = (("size", "small"),)


def sum_of(left: int, right: int, *, source: str = "corpus") -> Example:
    """A right example of the family."""
    task = Sums()
    prompt = f"add {left} {right}"
    return Example(prompt, str(left + right), source, axes=task.annotate(prompt))


@dataclass
class Sums:
    """Sums of two numbers; the axis size tells whether one of them is above 100."""

    lesson: Callable[[Conditions, int], Iterator[Example]] | None = None
    has_verifier: bool = True
    stop_strings: tuple[str, ...] = ()

    def corpus(self, options: Options) -> list[Example]:
        return [sum_of(left, right) for left in range(5) for right in range(5)]

    def pool(self, options: Options) -> list[Example]:
        return []

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        return []

    def annotate(self, prompt: str) -> Axes:
        verb, left, right = prompt.split()
        if verb != "add":
            raise ValueError(f"no sum: {prompt!r}")
        return {"size": ("big" if max(int(left), int(right)) > 100 else "small",)}

    def score(self, item: Item, output: str) -> Score:
        return Score(float(output == item.target), "exact")

    def rescore(self, item: Item, output: str) -> Score:
        return self.score(item, output)

    def verify(self, prompt: str, answer: str) -> bool:
        _, left, right = prompt.split()
        return self.has_verifier and int(left) + int(right) == int(answer)

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        if self.lesson is not None:
            yield from self.lesson(conditions, seed)
            return
        low = 101 if ("size", "big") in conditions else 6
        rng = random.Random(seed)
        while True:
            yield sum_of(rng.randrange(low, low + 90), rng.randrange(low, low + 90))


@dataclass
class ListedSource:
    """A source that yields what it was given."""

    examples: Sequence[Example]
    name: str = "listed"
    is_curriculum: bool = False

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        yield from self.examples


@dataclass
class HangingSource:
    """A source that yields some examples and then nothing, until it is released."""

    first: Sequence[Example] = ()
    name: str = "hanging"
    is_curriculum: bool = False
    released: threading.Event = field(default_factory=threading.Event)

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        yield from self.first
        self.released.wait(60)


def plan(
    spec: RunSpec, *, store: ArtifactStore, orders: Sequence[tuple[Conditions, int]], **changes: Any
) -> intervention_pb2.InterventionPlanned:
    """A data plan for slices and counts."""
    message = intervention_pb2.InterventionPlanned(
        position=common_pb2.RunPosition(run_id="r1", round=1),
        plan_id="p1",
        kind=diagnosis_pb2.INTERVENTION_KIND_DATA,
        items=[
            intervention_pb2.PlanItem(slice=slice_message(conditions), example_count=count)
            for conditions, count in orders
        ],
        checkpoint=artifact_ref(NO_ARTIFACT),
        run_spec=artifact_ref(spec.store(store)),
        replay_share=0.7,
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@dataclass
class Stage:
    """A data generator over a folder, with the real index and sources."""

    folder: Path
    task: Task = field(default_factory=Sums)
    limits: Limits = LIMITS
    sources: Sequence[Source] | None = None
    student: Student | None = None
    token_limit: int = 0
    telemetry: Telemetry = field(default_factory=lambda: Telemetry("data-generator"))
    spec_parts: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.folder)

    def ports(self) -> Ports:
        return Ports(
            store=self.store,
            telemetry=self.telemetry,
            open_sources=self._open_sources,
            open_index=MinHashIndex,
            limits=self.limits,
            task_of=lambda spec: self.task,
            open_student=(lambda spec, checkpoint: self.student) if self.student else None,
            open_teaching=self._open_teaching,
            clock=itertools.count(100.0, 1.5).__next__,
        )

    def spec(self) -> RunSpec:
        parts = {"recipe": recipe(task="sums"), **self.spec_parts}
        if "corpus" not in parts:
            parts["corpus"] = self.task.corpus({})
        return run_spec(self.store, **parts)

    def plan(self, *orders: tuple[Conditions, int], **changes: Any) -> intervention_pb2.InterventionPlanned:
        return plan(self.spec(), store=self.store, orders=orders, **changes)

    def answer(self, message: Message | Event) -> intervention_pb2.DataBatchReady:
        """The one event that a plan brings."""
        [emit] = on_intervention_planned(message if isinstance(message, Event) else event(message), ports=self.ports())
        assert isinstance(emit.message, intervention_pb2.DataBatchReady)
        assert (emit.key, emit.subject) == ("r1", "r1")
        return emit.message

    def rows(self, ready: intervention_pb2.DataBatchReady) -> list[Example]:
        return get_rows(self.store, artifact_of(ready.batch), kind=Example)

    def _open_teaching(self, assignment: Assignment) -> Teaching:
        limited = replace(assignment, token_limit=self.token_limit)
        return hired(limited, store=self.store, pause=lambda seconds: None)

    def _open_sources(self, task: Task, task_name: str, pool: Sequence[Example]) -> Sequence[Source]:
        if self.sources is not None:
            return self.sources
        return [PoolSource(pool, annotate=task.annotate), TaskTeacher(task, task_name=task_name)]


def drops(ready: intervention_pb2.DataBatchReady, stage: str) -> dict[str, int]:
    """Reasons and counts of one stage."""
    return {row.reason: row.count for row in ready.drops if row.stage == stage}


__all__ = ["BIG", "SMALL", "HangingSource", "ListedSource", "Stage", "Sums", "drops", "example", "sum_of"]
