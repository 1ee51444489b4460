"""A small world around the evaluator: a suite of four verbs, models that know some of them, and what starts work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders import event, item, recipe, run_spec

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.bus.runtime import Emit
from mendloop.core.records import Item
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_ref
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.handlers import (
    Ports,
    on_checkpoint_ready,
    on_evaluation_shard,
    on_shard_scored,
)
from mendloop.models.generation import Generation, TokenLogprobs
from mendloop.v1 import checkpoint_pb2, common_pb2

BASE, CANDIDATE = (Artifact(f"file:///{name}", name[0] * 64, 1, "application/json") for name in ("base", "candidate"))
VERBS = ("walk", "look", "run", "jump")


@dataclass
class FakeModel:
    """Answers prompts from a table; what is not in it gets a wrong answer."""

    answers: dict[str, str]
    uses_gpu: bool = False
    asked: list[str] = field(default_factory=list)

    def generate(self, prompts: Any, *, max_new_tokens: int, stop: Any = ()) -> list[Generation]:
        self.asked += prompts
        return [Generation(self.answers.get(p, "I_WRONG"), 3, min(2, max_new_tokens), "eos") for p in prompts]

    def logprobs(self, prompts: Any, completions: Any) -> list[TokenLogprobs]:
        return [TokenLogprobs((-0.5,), -0.5) for _ in prompts]


class QuotingModel(FakeModel):
    """Fails as backends do: with the prompt in its words."""

    def generate(self, prompts: Any, *, max_new_tokens: int, stop: Any = ()) -> list[Generation]:
        raise RuntimeError(f"cannot generate after {prompts}")


@dataclass
class FakeLoader:
    models: dict[str, FakeModel]
    loads: int = 0

    def load(self, checkpoint: Artifact) -> FakeModel:
        self.loads += 1
        return self.models[checkpoint.sha256]


class World:
    """A run whose suite has four verbs. A model knows the verbs that it is given."""

    def __init__(self, root: Path, *, knows: Iterable[str] = VERBS, **suite: Any) -> None:
        self.store, self.sealed_store = ArtifactStore(root / "open"), ArtifactStore(root / "sealed")
        self.items = [_item(i, "search" if i % 3 else "confirm") for i in range(360)]
        self.sealed = [_item(i, "sealed") for i in range(1000, 1080)]
        settings = {"axes": ["verb"], "search": 240, "confirm": 120, "sealed": 80, "shards": 2, **suite}
        self.spec = run_spec(
            self.store,
            sealed_store=self.sealed_store,
            recipe=recipe(suite=settings),
            items=self.items,
            sealed=self.sealed,
        )
        self.loader = FakeLoader({BASE.sha256: self.model(knows), CANDIDATE.sha256: self.model(VERBS)})
        self.telemetry = Telemetry("evaluator")
        self.ports = Ports(
            store=self.store,
            sealed_store=self.sealed_store,
            outcomes=StoredOutcomes(self.store),
            sealed_outcomes=StoredOutcomes(self.sealed_store),
            models=self.loader,
            telemetry=self.telemetry,
        )

    def model(self, knows: Iterable[str]) -> FakeModel:
        known = [i for i in (*self.items, *self.sealed) if set(i.axes["verb"]) <= set(knows)]
        return FakeModel({self.spec.prompt(i.prompt): i.target for i in known})

    def ready(self, checkpoint: Artifact = BASE, **fields: Any) -> checkpoint_pb2.CheckpointReady:
        return checkpoint_pb2.CheckpointReady(
            **{
                "position": common_pb2.RunPosition(run_id="run-1", round=0),
                "checkpoint": artifact_ref(checkpoint),
                "kind": checkpoint_pb2.CHECKPOINT_KIND_BASE,
                "run_spec": artifact_ref(self.spec.store(self.store)),
                "diagnosis_wanted": True,
                **fields,
            }
        )

    def candidate(self, **fields: Any) -> checkpoint_pb2.CheckpointReady:
        return self.ready(
            CANDIDATE,
            **{
                "kind": checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE,
                "baseline": artifact_ref(BASE),
                "position": common_pb2.RunPosition(run_id="run-1", round=1),
                **fields,
            },
        )

    def scored(self, ready: checkpoint_pb2.CheckpointReady) -> list[Emit]:
        shards = on_checkpoint_ready(event(ready), ports=self.ports)
        return [emit for shard in shards for emit in on_evaluation_shard(event(shard.message), ports=self.ports)]

    def measured(self, ready: checkpoint_pb2.CheckpointReady) -> list[Emit]:
        return [
            emit for scored in self.scored(ready) for emit in on_shard_scored(event(scored.message), ports=self.ports)
        ]


def _item(number: int, split: Any) -> Item:
    verb = VERBS[number // 3 % 4 if split != "sealed" else number % 4]
    length = "long" if number // 12 % 2 else "short"
    name = "sealed" if split == "sealed" else "open"
    return item(f"{name}-{number}", prompt=f"{name} command {number}", split=split, verb=verb, length=length)
