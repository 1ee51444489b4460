"""A batch is found by its hash or by its run; what is missing or ambiguous is told with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import example
from exchange_world import EXAMPLES, FACTS, RUN, put_batch

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.errors import Permanent
from mendloop.core.records import Example
from mendloop.exchange.batches import find_batch, round_of


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def test_the_beginning_of_a_hash_is_enough(store: ArtifactStore) -> None:
    artifact = put_batch(store)

    batch = find_batch(store, artifact.sha256[:8])

    assert [row.example for row in batch.rows] == EXAMPLES
    assert [row.row_id for row in batch.rows] == [f"{artifact.sha256[:12]}-{place:05d}" for place in range(3)]
    assert round_of(store, batch.node) == 1


def test_a_run_means_its_newest_round_unless_one_is_asked_for(store: ArtifactStore) -> None:
    first = put_batch(store)
    second = put_batch(store, [example("run thrice", source="pool")], round=2)

    assert find_batch(store, RUN).artifact.sha256 == second.sha256
    assert find_batch(store, RUN, round=1).artifact.sha256 == first.sha256


def test_a_control_arms_batch_is_found_by_its_hash_alone(store: ArtifactStore) -> None:
    main, control = put_batch(store), put_rows(store, EXAMPLES[:1], kind=Example)
    record(store, Node(f"batch:{control.sha256}", RUN, ("plan:p1",), {**FACTS, "control": "random"}))
    assert find_batch(store, RUN).artifact.sha256 == main.sha256
    assert find_batch(store, control.sha256).artifact.sha256 == control.sha256


def test_same_bytes_of_two_runs_are_found_with_the_history_of_the_run_asked_for(store: ArtifactStore) -> None:
    put_batch(store, run_id="r1", round=1)
    put_batch(store, run_id="r2", round=3)

    assert find_batch(store, "r1").node.run_id == "r1"
    assert round_of(store, find_batch(store, "r1").node) == 1


@pytest.mark.parametrize(
    ("name", "round", "complaint"),
    [
        (
            "nothing",
            None,
            r"no batch starts with 'nothing' and no run of this name made one; known batches are [0-9a-f]",
        ),
        (RUN, 7, r"made no batch in round 7; rounds with one are 1, 2"),
        ("", None, r"2 batches start with ''; give more of the hash"),
    ],
)
def test_what_cannot_be_found_is_told_with_what_there_is(
    store: ArtifactStore, name: str, round: int | None, complaint: str
) -> None:
    put_batch(store)
    put_batch(store, [example("run thrice", source="pool")], round=2)

    with pytest.raises(Permanent, match=complaint):
        find_batch(store, name, round=round)


def test_two_batches_of_one_round_are_listed_to_choose_from(store: ArtifactStore) -> None:
    put_batch(store)
    put_batch(store, EXAMPLES[:2])

    with pytest.raises(Permanent, match=r"has 2 batches in round 1: name one by its hash: .*3 rows, as it was made"):
        find_batch(store, RUN)
