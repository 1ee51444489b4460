from __future__ import annotations

from pathlib import Path

import pytest

from mendloop.artifacts.lineage import Node, ancestry, completed, find, record
from mendloop.artifacts.store import ArtifactStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path if request.param == "file" else f"memory://lineage-{tmp_path}")


def keep(store: ArtifactStore, name: str, *inputs: str, run_id: str = "r1", **facts: object) -> Node:
    node = Node(name, run_id, inputs, facts)
    record(store, node)
    return node


def names(store: ArtifactStore, start: str) -> list[tuple[int, str]]:
    return [(depth, node.name) for depth, node in ancestry(store, start)]


def test_a_node_comes_back_with_its_inputs_and_facts(store: ArtifactStore) -> None:
    node = keep(store, "failure:e1/s1", "evaluation:e1", slice="verb=jump", n=20, accuracy=0.05)

    assert find(store, "failure:e1/s1") == node
    assert find(store, "failure:e1/s2") is None


def test_the_same_node_again_has_the_same_manifest(store: ArtifactStore) -> None:
    node = Node("plan:p1", "r1", ("diagnosis:d1",), {"examples": 64})

    assert record(store, node) == record(store, node)


def test_a_walk_goes_from_checkpoint_to_the_failure_that_led_to_it(store: ArtifactStore) -> None:
    keep(store, "checkpoint:base")
    keep(store, "evaluation:e1", "checkpoint:base")
    keep(store, "failure:e1/s1", "evaluation:e1")
    keep(store, "diagnosis:e1/s1", "failure:e1/s1")
    keep(store, "plan:p1", "diagnosis:e1/s1")
    keep(store, "batch:b1", "plan:p1")
    keep(store, "checkpoint:new", "batch:b1", "checkpoint:base")

    assert names(store, "checkpoint:new") == [
        (0, "checkpoint:new"),
        (1, "batch:b1"),
        (2, "plan:p1"),
        (3, "diagnosis:e1/s1"),
        (4, "failure:e1/s1"),
        (5, "evaluation:e1"),
        (6, "checkpoint:base"),
    ]


def test_a_walk_ends_on_a_cycle(store: ArtifactStore) -> None:
    keep(store, "checkpoint:a", "checkpoint:b")
    keep(store, "checkpoint:b", "checkpoint:a", "checkpoint:b")

    assert names(store, "checkpoint:a") == [(0, "checkpoint:a"), (1, "checkpoint:b")]


def test_an_input_without_a_node_is_left_out(store: ArtifactStore) -> None:
    keep(store, "checkpoint:a", "batch:gone", "plan:p1")
    keep(store, "plan:p1")

    assert names(store, "checkpoint:a") == [(0, "checkpoint:a"), (1, "plan:p1")]
    assert names(store, "checkpoint:unknown") == []


def test_a_walk_stays_in_its_run_where_two_runs_made_the_same_bytes(store: ArtifactStore) -> None:
    keep(store, "batch:same", "plan:p1", run_id="r1")
    keep(store, "checkpoint:one", "batch:same", run_id="r1")
    keep(store, "plan:p1", run_id="r1")
    keep(store, "batch:same", "plan:p2", run_id="r2")
    keep(store, "plan:p2", run_id="r2")

    assert names(store, "checkpoint:one") == [(0, "checkpoint:one"), (1, "batch:same"), (2, "plan:p1")]


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "run 1"])
def test_any_run_id_keeps_its_nodes(store: ArtifactStore, run_id: str) -> None:
    node = keep(store, "plan:p1", run_id=run_id)
    keep(store, "plan:p1", run_id="another")

    assert find(store, "plan:p1", run_id=run_id) == node


def test_a_short_hash_is_completed(store: ArtifactStore) -> None:
    for name in ("checkpoint:abc1", "checkpoint:abc2", "checkpoint:b", "batch:abc3"):
        keep(store, name)

    assert completed(store, "checkpoint:abc") == ["checkpoint:abc1", "checkpoint:abc2"]
    assert completed(store, "checkpoint:abc2") == ["checkpoint:abc2"]
    assert completed(store, "checkpoint:zz") == []


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint:", "model:abc", ""])
def test_a_name_that_says_no_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="KIND:ID"):
        Node(name, "r1")
