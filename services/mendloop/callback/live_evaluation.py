"""Measures a model that is still in training, with the evaluator's own handlers, and publishes what they say.

Knows recipes, stores and a bus; knows neither trainers nor tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.bus.base import Bus
from mendloop.bus.runtime import Emit, Event
from mendloop.core.contracts import EVALUATOR, all_topics
from mendloop.core.errors import InvalidRecipe
from mendloop.core.events import envelope_for, stable_hash
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import find_task
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_ref, slice_name
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.handlers import Ports, on_checkpoint_ready, on_evaluation_shard, on_shard_scored
from mendloop.evaluator.ports import MeteredModel
from mendloop.submission.submit import check_axes, check_template, draw_items
from mendloop.v1 import checkpoint_pb2, common_pb2, evaluation_pb2

SOURCE = "training-callback"
_NOTHING = Artifact("", "0" * 64, 0, "application/octet-stream")
_UNSAVED = "application/vnd.mendloop.model-in-training"


@dataclass(frozen=True, slots=True)
class WeakSlice:
    """A slice that was weak on both splits: right answers among n, over both."""

    name: str
    correct: int
    n: int
    q_value: float


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What one evaluation found. low and high are the ends of accuracy's 95 % interval."""

    step: int
    correct: int
    n: int
    low: float
    high: float
    weak: tuple[WeakSlice, ...]
    wall_s: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.correct / self.n if self.n else 0.0


class LiveEvaluation:
    """One suite, drawn once and measured as often as asked. Every evaluation is a round of one run."""

    def __init__(self, recipe: Recipe, *, run_id: str, store: ArtifactStore, bus: Bus) -> None:
        """Raises InvalidRecipe for a suite that cannot be drawn. Sealed items are for gates: they are left out."""
        if recipe.suite.backend != "transformers":
            raise InvalidRecipe("a model in training is measured in process; set suite.backend to transformers")
        self._run_id, self._store, self._bus, self._round = run_id, store, bus, 0
        check_template(recipe.template)
        drawn = draw_items(find_task(recipe.task, recipe.suite.options), recipe)
        items = [item for item in drawn if item.split != "sealed"]
        check_axes(items, axes=recipe.suite.axes)
        self.item_count = len(items)
        self._spec = artifact_ref(
            RunSpec(
                recipe=recipe,
                base=_NOTHING,
                corpus=put_rows(store, [], kind=Example),
                pool=None,
                items=put_rows(store, items, kind=Item),
                sealed_items=None,
                fingerprints=_NOTHING,
            ).store(store)
        )
        bus.ensure_topics(all_topics())

    def measure(self, model: MeteredModel, *, step: int, checkpoint: Artifact | None = None) -> LiveResult:
        """Measure the model as it is after a step, and publish EvalCompleted and an EvalFailed for each weak slice.

        checkpoint is where its weights lie; without it the events name the step alone, and nobody can load it.
        """
        at = checkpoint or Artifact("", stable_hash(self._run_id, str(step)), 0, _UNSAVED)
        ready = checkpoint_pb2.CheckpointReady(
            position=common_pb2.RunPosition(run_id=self._run_id, round=self._round),
            checkpoint=artifact_ref(at),
            kind=checkpoint_pb2.CHECKPOINT_KIND_BASE,
            run_spec=self._spec,
            diagnosis_wanted=True,
        )
        self._round += 1
        emits = self._evaluated(ready, model=model)
        self._bus.publish(
            [
                envelope_for(
                    emit.message,
                    event_id=stable_hash(SOURCE, emit.message.DESCRIPTOR.full_name, emit.identity)[:32],
                    source=SOURCE,
                    key=emit.key,
                    subject=emit.subject,
                )
                for emit in emits
            ]
        )
        return _result(emits, step=step)

    def _evaluated(self, ready: checkpoint_pb2.CheckpointReady, *, model: MeteredModel) -> list[Emit]:
        """What the evaluator's handlers answer, one after the other in this process."""
        outcomes = StoredOutcomes(self._store)
        ports = Ports(
            store=self._store,
            sealed_store=self._store,
            outcomes=outcomes,
            sealed_outcomes=outcomes,
            models=_InMemory(model),
            telemetry=Telemetry(EVALUATOR),
        )
        emits: list[Emit] = []
        for shard in on_checkpoint_ready(_event(ready), ports=ports):
            for scored in on_evaluation_shard(_event(shard.message), ports=ports):
                emits += on_shard_scored(_event(scored.message), ports=ports)
        return emits


class _InMemory:
    """A ModelLoader of the one model that is there already."""

    def __init__(self, model: MeteredModel) -> None:
        self._model = model

    def load(self, checkpoint: Artifact) -> MeteredModel:
        """The model, whatever the checkpoint is called."""
        return self._model


def default_store(folder: Path) -> ArtifactStore:
    """The store of a callback that was given none."""
    return ArtifactStore(folder.resolve() / "artifacts")


def _event(message: object) -> Event:
    return Event(message, "", "", lambda: False)  # type: ignore[arg-type]  # every emitted message is a Message


def _result(emits: Sequence[Emit], *, step: int) -> LiveResult:
    messages = [emit.message for emit in emits]
    (completed,) = (m for m in messages if isinstance(m, evaluation_pb2.EvalCompleted))
    failures = [m for m in messages if isinstance(m, evaluation_pb2.EvalFailed)]
    total = completed.accuracy
    weak = tuple(
        WeakSlice(
            slice_name([(one.axis, one.value) for one in m.slice.conditions]),
            m.accuracy.correct + m.confirmation.correct,
            m.accuracy.n + m.confirmation.n,
            m.q_value,
        )
        for m in failures
    )
    return LiveResult(step, total.correct, total.n, total.low, total.high, weak, completed.metering.wall_s)
