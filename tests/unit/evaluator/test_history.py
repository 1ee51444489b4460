"""Slices over checkpoints: stored at a version, followed by their items; nodes are slices like others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import event, item, outcome, recipe, run_spec
from numpy.typing import NDArray

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.errors import Permanent
from mendloop.core.records import Item, Outcome
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref, conditions_of
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.domain.scoring import Cost
from mendloop.evaluator.handlers import Ports, on_shard_scored
from mendloop.evaluator.history import SliceHistory
from mendloop.v1 import checkpoint_pb2, common_pb2, evaluation_pb2

VERBS = ("walk", "jump")
Right = Callable[[Item], bool]


@dataclass
class FakeEmbedder:
    """Walking to the left, jumping to the right."""

    name: str = "fake"
    calls: int = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[-1, 0] if "walk" in text else [1, 0] for text in texts], dtype=np.float32)

    def fit(self, texts: Sequence[str]) -> FakeEmbedder:
        return self

    def to_bytes(self) -> bytes:
        return b""


class NoModels:
    def load(self, checkpoint: Artifact) -> Any:
        raise AssertionError("nothing is scored here")


class World:
    """A run whose shards are scored already; a round is right where the given function says so."""

    def __init__(self, root: Path, *, axes: Sequence[str] = ("verb",), embedder: FakeEmbedder | None = None) -> None:
        self.store, self.sealed_store = ArtifactStore(root / "open"), ArtifactStore(root / "sealed")
        self.items = [_item(i, split="search" if i % 3 else "confirm") for i in range(180)]
        self.sealed = [_item(i, split="sealed") for i in range(500, 540)]
        self.spec = run_spec(
            self.store,
            sealed_store=self.sealed_store,
            recipe=recipe(suite={"axes": list(axes), "search": 120, "confirm": 60, "sealed": 40, "shards": 1}),
            items=self.items,
            sealed=self.sealed,
        )
        self.ports = Ports(
            store=self.store,
            sealed_store=self.sealed_store,
            outcomes=StoredOutcomes(self.store),
            sealed_outcomes=StoredOutcomes(self.sealed_store),
            models=NoModels(),
            telemetry=Telemetry("evaluator"),
            embedder=embedder,
        )

    def measured(
        self, is_right: Callable[[Item], bool], *, number: int = 0, run_id: str = "run-1", arm: str = ""
    ) -> Any:
        name = f"evaluation-{run_id}-{number}-{arm}"
        for items, kept_in in ((self.items, self.ports.outcomes), (self.sealed, self.ports.sealed_outcomes)):
            kept_in.keep(name, "0-of-1", outcomes=[_outcome(i, is_right(i)) for i in items], cost=Cost())
        shard = evaluation_pb2.ShardScored(
            position=common_pb2.RunPosition(run_id=run_id, round=number, arm=arm),
            evaluation_id=name,
            shard_count=1,
            checkpoint_ready=checkpoint_pb2.CheckpointReady(
                checkpoint=artifact_ref(Artifact("file:///c", f"{number}" * 64, 1, "application/json")),
                run_spec=artifact_ref(self.spec.store(self.store)),
                diagnosis_wanted=True,
            ),
        )
        return [emit.message for emit in on_shard_scored(event(shard), ports=self.ports)]


def _walks(item: Item) -> bool:
    return "walk" in item.prompt


def _every(nth: int) -> Callable[[Item], bool]:
    return lambda item: "walk" in item.prompt or int(item.item_id.split("-")[1]) % nth == 0


def test_a_first_failure_has_a_version_and_no_trend(tmp_path: Path) -> None:
    _, failure = World(tmp_path).measured(_walks)

    assert len(failure.slice_version) == 12
    assert not failure.trend


def test_a_slice_is_followed_over_the_checkpoints_of_its_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.measured(_walks)
    world.measured(_every(5), number=1)

    _, failure = world.measured(_every(4), number=2)

    assert [(p.round, p.accuracy.correct, p.accuracy.n) for p in failure.trend] == [(0, 0, 90), (1, 18, 90)]
    assert [p.checkpoint.sha256[0] for p in failure.trend] == ["0", "1"]
    assert failure.trend[1].accuracy.low < 0.2 < failure.trend[1].accuracy.high


def test_a_redelivery_of_an_old_round_does_not_see_later_ones(tmp_path: Path) -> None:
    world = World(tmp_path)
    once = world.measured(_walks, number=1)
    world.measured(_every(5), number=2)

    assert world.measured(_walks, number=1) == once


def test_other_runs_and_other_arms_are_not_in_the_trend(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.measured(_walks)
    world.measured(_walks, number=1, arm="random")
    world.measured(_walks, number=1, run_id="run-2")

    _, failure = world.measured(_walks, number=2, arm="targeted")

    assert [point.round for point in failure.trend] == [0]


def test_the_stored_slice_says_what_it_is_and_which_items_it_holds(tmp_path: Path) -> None:
    world = World(tmp_path)
    _, failure = world.measured(_walks)

    stored = SliceHistory(world.store).slice_of(failure.slice.slice_id, failure.slice_version)

    assert stored is not None
    assert (stored.name, stored.conditions) == ("verb=jump", (("verb", "jump"),))
    assert set(stored.item_ids) == {i.item_id for i in world.items if "jump" in i.prompt}
    assert SliceHistory(world.store).slice_of(failure.slice.slice_id, "0" * 12) is None


def test_other_items_under_the_same_definition_are_another_version(tmp_path: Path) -> None:
    history = SliceHistory(ArtifactStore(tmp_path))
    rows = [outcome(f"i{i}", axes={"verb": ("jump",)}) for i in range(3)]
    conditions = (("verb", "jump"),)

    first, again, more = (history.keep(conditions, rows[:n]) for n in (2, 2, 3))

    assert first == again
    assert first.slice_id == more.slice_id
    assert history.versions(first.slice_id) == sorted({first.version, more.version})
    assert first.version != more.version


def test_items_are_followed_by_id_where_their_axes_were_read_otherwise(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.items = [replace(i, axes={"verb": ("unknown",)}) for i in world.items]
    world.measured(_walks)
    world.items = [replace(i, axes={"verb": (_verb(i.prompt),)}) for i in world.items]

    _, failure = world.measured(_walks, number=1)

    assert [(point.accuracy.correct, point.accuracy.n) for point in failure.trend] == [(0, 90)]


def test_a_weak_node_is_an_event_like_any_slice(tmp_path: Path) -> None:
    world = World(tmp_path, axes=["cluster"], embedder=FakeEmbedder())

    completed, failure = world.measured(_walks)

    ((axis, node),) = conditions_of(failure.slice)
    assert axis == "cluster"
    assert "jump" in node
    assert (failure.accuracy.correct, failure.accuracy.n, failure.confirmation.n) == (0, 60, 30)
    rows = get_rows(world.store, artifact_of(completed.outcomes), kind=Outcome)
    assert {row.axes["cluster"] for row in rows if "jump" in row.prompt} == {(node,)}
    kept = world.ports.sealed_outcomes.find(failure.evaluation_id, "all")
    assert kept is not None
    sealed = world.ports.sealed_outcomes.rows(kept)
    assert {row.axes["cluster"] for row in sealed if "jump" in row.prompt} == {(node,)}


def test_the_hierarchy_is_built_once_and_serves_every_checkpoint(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    world = World(tmp_path, axes=["cluster"], embedder=embedder)
    _, first = world.measured(_walks)

    _, second = world.measured(_walks, number=1)

    assert first.slice == second.slice
    assert first.slice_version == second.slice_version
    assert embedder.calls == 2  # the open items, then the sealed ones beside them


def test_no_prompt_or_id_of_a_sealed_item_is_in_the_open_store(tmp_path: Path) -> None:
    world = World(tmp_path, axes=["cluster"], embedder=FakeEmbedder())
    world.measured(_walks)

    written = [path.read_bytes() for path in (tmp_path / "open").rglob("*") if path.is_file()]

    assert not [i.item_id for i in world.sealed for data in written if i.item_id.encode() in data]


def test_a_hierarchy_without_an_embedder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no embedder"):
        World(tmp_path, axes=["cluster"]).measured(_walks)


def _verb(prompt: str) -> str:
    return next(verb for verb in VERBS if verb in prompt)


def _item(number: int, *, split: Any) -> Item:
    verb = VERBS[number // 3 % 2 if split != "sealed" else number % 2]
    return item(f"{split == 'sealed'}-{number}", prompt=f"{verb} to place {number}", split=split, verb=verb)


def _outcome(of: Item, is_right: bool) -> Outcome:
    return outcome(of.item_id, split=of.split, prompt=of.prompt, score=float(is_right), axes=of.axes)
