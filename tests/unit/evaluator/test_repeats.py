"""Several draws of an item: their seeds, what is kept, what slices count."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from builders import event, item, outcome, recipe, run_spec

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import InvalidRecipe, Permanent
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_ref
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.domain.draws import first_draws, pass_at_one, seed_of
from mendloop.evaluator.handlers import (
    REPEATS,
    WHOLE,
    Ports,
    on_checkpoint_ready,
    on_evaluation_shard,
    on_shard_scored,
)
from mendloop.models.generation import Generation, Sampling, TokenLogprobs
from mendloop.v1 import checkpoint_pb2, common_pb2

BASE = Artifact("file:///base", "b" * 64, 1, "application/json")
ITEMS = [item(f"i{n}", prompt=f"walk {n}", split="search" if n % 3 else "confirm", verb="walk") for n in range(60)]


@dataclass
class DrawingModel:
    """Right where the seed is even; says with which sampling it was asked."""

    uses_gpu: bool = False
    samplings: list[Sampling] = field(default_factory=list)
    greedy_count: int = 0
    scored_count: int = 0

    def generate(self, prompts: Any, *, max_new_tokens: int, stop: Any = ()) -> list[Generation]:
        self.greedy_count += len(prompts)
        return [Generation("I_WALK", 2, 1, "eos", latency_s=0.5) for _ in prompts]

    def sample(self, prompts: Any, *, sampling: Sampling, max_new_tokens: int, stop: Any = ()) -> list[Generation]:
        self.samplings.append(sampling)
        return [Generation("I_RUN" if seed % 2 else "I_WALK", 2, 1, "eos", latency_s=0.5) for seed in sampling.seeds]

    def logprobs(self, prompts: Any, completions: Any) -> list[TokenLogprobs]:
        self.scored_count += len(prompts)
        return [TokenLogprobs((-0.5, -0.25), -0.125) for _ in prompts]


@dataclass
class Loader:
    model: DrawingModel

    def load(self, checkpoint: Artifact) -> DrawingModel:
        return self.model


class World:
    def __init__(self, root: Path, *, servers: Loader | None = None, **suite: Any) -> None:
        self.store = ArtifactStore(root / "open")
        settings = {"axes": ["verb"], "search": 40, "confirm": 20, "sealed": 0, "shards": 2, **suite}
        self.spec = run_spec(self.store, recipe=recipe(suite=settings), items=ITEMS)
        self.model = DrawingModel()
        self.outcomes = StoredOutcomes(self.store)
        self.ports = Ports(
            store=self.store,
            sealed_store=ArtifactStore(root / "sealed"),
            outcomes=self.outcomes,
            sealed_outcomes=StoredOutcomes(ArtifactStore(root / "sealed")),
            models=Loader(self.model),
            telemetry=Telemetry("evaluator"),
            servers=servers,
        )

    def shards(self) -> list[Any]:
        ready = checkpoint_pb2.CheckpointReady(
            position=common_pb2.RunPosition(run_id="run-1"),
            checkpoint=artifact_ref(BASE),
            kind=checkpoint_pb2.CHECKPOINT_KIND_BASE,
            run_spec=artifact_ref(self.spec.store(self.store)),
        )
        return [emit.message for emit in on_checkpoint_ready(event(ready), ports=self.ports)]

    def measured(self) -> Any:
        scored = [on_evaluation_shard(event(shard), ports=self.ports)[0].message for shard in self.shards()]
        emits = [emit for message in scored for emit in on_shard_scored(event(message), ports=self.ports)]
        return emits[0].message


def test_every_item_is_drawn_as_often_as_asked_with_seeds_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path, temperature=0.7, top_p=0.9, repeats=3, seed=11)

    completed = world.measured()

    kept = world.outcomes.find(completed.evaluation_id, REPEATS)
    assert kept is not None
    rows = world.outcomes.rows(kept)
    assert {(row.item_id, row.repeat_index) for row in rows} == {(i.item_id, r) for i in ITEMS for r in range(3)}
    assert all(row.seed == seed_of(row.item_id, seed=11, repeat_index=row.repeat_index) for row in rows)
    assert all(row.score == (0.0 if row.seed % 2 else 1.0) for row in rows)
    assert len({row.seed for row in rows}) == len(rows)
    assert {(s.temperature, s.top_p) for s in world.model.samplings} == {(0.7, 0.9)}
    assert world.model.scored_count == len(ITEMS), "a target's log-probability knows no chance: once an item"


def test_slices_count_the_first_draw_of_each_item(tmp_path: Path) -> None:
    world = World(tmp_path, temperature=0.7, repeats=3)

    completed = world.measured()

    first = world.outcomes.find(completed.evaluation_id, WHOLE)
    assert first is not None
    rows = world.outcomes.rows(first)
    assert [row.repeat_index for row in rows] == [0] * len(ITEMS)
    assert (completed.accuracy.correct, completed.accuracy.n) == (sum(row.is_correct for row in rows), len(ITEMS))


def test_a_greedy_suite_draws_nothing_and_keeps_one_row_an_item(tmp_path: Path) -> None:
    world = World(tmp_path)

    completed = world.measured()

    assert world.model.greedy_count == len(ITEMS)
    assert not world.model.samplings
    assert world.outcomes.find(completed.evaluation_id, REPEATS) is None
    kept = world.outcomes.find(completed.evaluation_id, WHOLE)
    assert kept is not None
    row = world.outcomes.rows(kept)[0]
    assert (row.seed, row.latency_s, row.target_logprobs) == (0, 0.5, (-0.5, -0.25, -0.125))


def test_a_lost_draw_is_an_error_and_no_score(tmp_path: Path) -> None:
    world = World(tmp_path, temperature=0.7, repeats=2, shards=1)
    [shard] = world.shards()
    [scored] = on_evaluation_shard(event(shard), ports=world.ports)
    kept = world.outcomes.find(shard.evaluation_id, "0-of-1")
    assert kept is not None
    rows = [row for row in world.outcomes.rows(kept) if (row.item_id, row.repeat_index) != ("i5", 1)]
    world.outcomes.keep(shard.evaluation_id, "0-of-1", outcomes=rows, cost=kept.cost)

    with pytest.raises(Permanent, match="119 outcomes"):
        on_shard_scored(event(scored.message), ports=world.ports)


def test_a_suite_with_vllm_is_measured_by_a_server(tmp_path: Path) -> None:
    served = DrawingModel()
    world = World(tmp_path, servers=Loader(served), backend="vllm")

    world.measured()

    assert (served.greedy_count, world.model.greedy_count) == (len(ITEMS), 0)


def test_an_evaluator_without_vllm_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, backend="vllm")

    with pytest.raises(Permanent, match="this evaluator has no vLLM"):
        world.measured()


def test_a_family_that_asks_in_its_own_way_refuses_a_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mendloop.examples.scan.task.ScanTask.asker", object(), raising=False)
    world = World(tmp_path, temperature=0.7)

    with pytest.raises(InvalidRecipe, match=r"suite.temperature is 0\.7"):
        world.measured()


def test_pass_at_one_is_the_mean_over_items_of_the_mean_over_draws() -> None:
    scores = {"a": (1.0, 0.0), "b": (1.0, 1.0), "c": (0.0, 0.0)}
    rows = [_draw(name, at, score) for name, values in scores.items() for at, score in enumerate(values)]

    over = pass_at_one(rows)

    assert (over.mean, over.item_count, over.repeat_count) == (pytest.approx(0.5), 3, 2)
    assert over.standard_error == pytest.approx((0.25 / 3) ** 0.5)
    assert [row.item_id for row in first_draws(rows)] == ["a", "b", "c"]


def test_pass_at_one_of_unequal_repeats_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\] outcomes each"):
        pass_at_one([_draw("a", 0, 1.0), _draw("a", 1, 1.0), _draw("b", 0, 1.0)])


def _draw(name: str, repeat: int, score: float) -> Any:
    made = outcome(name, score=score)
    return type(made)(**{f: getattr(made, f) for f in made.__slots__} | {"repeat_index": repeat})
