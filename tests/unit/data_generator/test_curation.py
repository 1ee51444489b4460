"""A data round repairs and reweights the corpus that it replays, and says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from builders import event, example, item, recipe
from generator_world import BIG, SMALL, ListedSource, Stage, Sums, drops, sum_of

from mendloop.artifacts.lineage import find
from mendloop.artifacts.tables import get_rows
from mendloop.core.records import Example
from mendloop.core.wire import artifact_of
from mendloop.data_generator.handlers import on_intervention_planned
from mendloop.data_generator.ports import Shelf, Source
from mendloop.v1 import diagnosis_pb2, intervention_pb2

RIGHT = [sum_of(200 + n, n) for n in range(6)]
WRONG = [replace(sum_of(300 + n, n), completion="1") for n in range(3)]
SMALL_WRONG = replace(sum_of(3, 4), completion="1")
CORPUS = [*RIGHT, *WRONG, sum_of(1, 2), SMALL_WRONG]


@dataclass
class AnsweringSums(Sums):
    """Sums that knows its answers."""

    def answer(self, prompt: str) -> str:
        _, left, right = prompt.split()
        return str(int(left) + int(right))


def stage_of(folder: Path, *, task: Sums | None = None, **curation: Any) -> Stage:
    parts = {"corpus": CORPUS, "recipe": recipe(task="sums", curation=curation)}
    return Stage(folder / "artifacts", task=task or AnsweringSums(), spec_parts=parts)


def corrupted(plan: intervention_pb2.InterventionPlanned) -> intervention_pb2.InterventionPlanned:
    for order in plan.items:
        order.cause = diagnosis_pb2.CAUSE_DATA_CORRUPTED
    return plan


def replayed(stage: Stage, ready: intervention_pb2.DataBatchReady) -> list[Example]:
    return get_rows(stage.store, artifact_of(ready.corpus), kind=Example)


def facts_of(stage: Stage, ready: intervention_pb2.DataBatchReady) -> dict[str, Any]:
    node = find(stage.store, f"batch:{ready.batch.sha256}")
    assert node is not None
    return dict(node.facts)


def test_wrong_labels_of_a_corrupted_slice_are_repaired_in_the_corpus_to_replay(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, repair="slices")

    ready = stage.answer(corrupted(stage.plan((BIG, 4))))

    rows = replayed(stage, ready)
    assert [row.completion for row in rows] == [
        *[row.completion for row in RIGHT],
        *["300", "302", "304"],
        *["3", "1"],
    ]
    assert drops(ready, "corpus") == {"size=big: the verifier refutes its label, answered anew and verified": 3}
    assert ready.example_count == 4
    facts = facts_of(stage, ready)
    assert facts["corpus"] == {
        "sha256": ready.corpus.sha256,
        "rows_before": 11,
        "rows_removed": 0,
        "labels_repaired": 3,
    }


def test_a_row_that_is_removed_may_be_taught_anew(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, task=Sums(), repair="slices")
    stage.sources = [ListedSource([sum_of(300 + n, n) for n in range(3)])]

    ready = stage.answer(corrupted(stage.plan((BIG, 3))))

    assert [row.prompt for row in replayed(stage, ready)] == [row.prompt for row in [*RIGHT, *CORPUS[-2:]]]
    assert {row.prompt for row in stage.rows(ready)} == {row.prompt for row in WRONG}
    assert facts_of(stage, ready)["audit"]["kept_count"] == 8


def test_the_whole_corpus_is_repaired_where_the_recipe_says_so(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, repair="whole")

    ready = stage.answer(stage.plan((SMALL, 2)))

    assert [row.completion for row in replayed(stage, ready)][-1] == "7"
    assert sum(drops(ready, "corpus").values()) == 4


@pytest.mark.parametrize("curation", [{}, {"repair": "slices"}])
def test_a_slice_that_merely_lacks_data_and_a_recipe_without_curation_leave_the_corpus_alone(
    tmp_path: Path, curation: dict[str, str]
) -> None:
    stage = stage_of(tmp_path, **curation)
    plan = stage.plan((BIG, 4))

    ready = stage.answer(plan if curation else corrupted(plan))

    assert not ready.HasField("corpus")
    assert drops(ready, "corpus") == {}
    assert "corpus" not in facts_of(stage, ready)


def test_replay_holds_more_of_the_cluster_in_which_the_slice_lies(tmp_path: Path) -> None:
    farm = [example(f"cow barn hay {word}", completion="1", size="small") for word in "abcdefghijkl"]
    sea = [example(f"ship wave tide {word}", completion="2", size="big") for word in "abcd"]
    stage = stage_of(tmp_path, reweight=0.5, clusters=2)
    stage.sources = [ListedSource([])]
    stage.spec_parts |= {
        "corpus": [*farm, *sea],
        "items": [
            item("i1", prompt="ship wave tide z", size="big"),
            item("i2", prompt="cow hay barn", split="confirm", size="big"),
        ],
    }

    ready = stage.answer(stage.plan((BIG, 6)))

    rows = replayed(stage, ready)
    assert Counter(row.completion for row in rows) == {"1": 6, "2": 10}  # .5 of 4/16 and .5 of all: .625 of 16
    shares = facts_of(stage, ready)["corpus"]["clusters"]
    assert sorted((share["before"], share["after"]) for share in shares.values()) == [(0.25, 0.625), (0.75, 0.375)]
    assert all(count == 0 for count in drops(ready, "corpus").values())
    assert len(drops(ready, "corpus")) == 2


def test_replay_is_not_reweighted_for_a_slice_that_no_search_item_shows(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, reweight=0.5)

    ready = stage.answer(stage.plan((BIG, 2)))

    assert not ready.HasField("corpus")
    assert list(drops(ready, "corpus")) == [
        "replay is not reweighted: no search item of the ordered slices lies in a cluster"
    ]


def test_retrieval_is_asked_first_and_sees_search_items_alone(tmp_path: Path) -> None:
    shelves: list[Shelf] = []

    def opened(shelf: Shelf) -> list[Source]:
        shelves.append(shelf)
        return [ListedSource([sum_of(500, 1, source="retrieval")], name="retrieval")]

    items = [item(f"i-{split}", prompt=f"add 400 {n}", split=split) for n, split in enumerate(("search", "confirm"))]  # type: ignore[arg-type]  # both are splits
    stage = stage_of(tmp_path)
    stage.spec_parts |= {"recipe": recipe(task="sums", retrieval={}), "pool": RIGHT, "items": items}

    [emit] = on_intervention_planned(event(stage.plan((BIG, 2))), ports=replace(stage.ports(), open_retrieval=opened))

    ready = emit.message
    assert isinstance(ready, intervention_pb2.DataBatchReady)
    assert next(row.prompt for row in stage.rows(ready)) == "add 500 1"
    [shelf] = shelves
    assert [one.item_id for one in shelf.items] == ["i-search"]
    assert [row.prompt for row in shelf.pool] == [row.prompt for row in RIGHT]


def test_without_retrieval_in_the_recipe_nobody_is_asked(tmp_path: Path) -> None:
    def opened(shelf: Shelf) -> list[Source]:
        raise AssertionError("nobody asked for retrieval")

    stage = stage_of(tmp_path)
    stage.spec_parts |= {"pool": RIGHT}

    assert on_intervention_planned(event(stage.plan((BIG, 2))), ports=replace(stage.ports(), open_retrieval=opened))
