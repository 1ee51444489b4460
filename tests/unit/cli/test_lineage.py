"""A checkpoint is walked back to the failures that led to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import ArtifactStore
from mendloop.cli.lineage import checkpoint_named, tree, walk
from mendloop.core.errors import InvalidEvent


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    for name, inputs, facts in (
        ("checkpoint:aaa", (), {}),
        ("evaluation:e1", ("checkpoint:aaa",), {"accuracy": 0.71}),
        ("failure:e1/s1", ("evaluation:e1",), {"slice": "verb=jump"}),
        ("diagnosis:e1/s1", ("failure:e1/s1",), {"cause": "DATA_MISSING"}),
        ("plan:p1", ("diagnosis:e1/s1",), {}),
        ("batch:bbb", ("plan:p1",), {"example_count": 64}),
        ("checkpoint:ccc", ("plan:p1", "batch:bbb", "checkpoint:aaa"), {}),
        ("gate:ccc", ("checkpoint:ccc",), {"decision": "promoted"}),
    ):
        record(store, Node(name, "r1", inputs, facts))
    return store


def test_walk_names_every_step_from_gate_to_failure(store: ArtifactStore) -> None:
    kinds = [node.kind for _, node in walk(store, "checkpoint:ccc")]
    assert kinds[:2] == ["gate", "checkpoint"]
    assert {"plan", "diagnosis", "failure", "evaluation", "batch"} <= set(kinds)


def test_short_hash_is_enough(store: ArtifactStore) -> None:
    assert checkpoint_named(store, "cc") == "checkpoint:ccc"


def test_unknown_hash_is_answered_with_the_known_ones(store: ArtifactStore) -> None:
    with pytest.raises(InvalidEvent, match=r"0 checkpoints start with 'zz'; known are aaa, ccc"):
        checkpoint_named(store, "zz")


def test_tree_shows_facts(store: ArtifactStore) -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tree(store, "checkpoint:ccc"))
    text = console.export_text()
    for part in ("verb=jump", "DATA_MISSING", "example_count 64", "decision promoted"):
        assert part in text
