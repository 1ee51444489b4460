"""Curvature, ranking and the query, against values worked out another way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mendloop.attribution.adapters.retrieval import Bm25
from mendloop.attribution.domain.influence import Block, Curvature, Rows
from mendloop.attribution.domain.ranking import likeliest, ranked
from mendloop.attribution.engine import Attribution, Failure
from mendloop.attribution.index import build_index
from mendloop.attribution.ports import Text
from mendloop.core.errors import Permanent

BLOCKS = (Block("a", 3), Block("b", 5))
CORPUS = [
    Text("jump twice", "JUMP JUMP"),
    Text("walk twice", "WALK WALK"),
    Text("jump left", "LEFT JUMP"),
    Text("look left", "LEFT LOOK"),
    Text("run", "RUN"),
]


class TableSource:
    """Gradients that a test writes down."""

    identity = "cd" * 32
    blocks = (Block("only", 2),)

    def __init__(self, table: dict[Text, tuple[float, float]]) -> None:
        self.table = table

    def rows(self, texts: Sequence[Text]) -> Rows:
        return np.array([self.table[text] for text in texts], np.float32)


def attribution(tmp_path: Path, table: dict[Text, tuple[float, float]], **options: Any) -> Attribution:
    source = TableSource(table)
    index, _ = build_index(source, CORPUS, root=tmp_path, storage="float32")
    return Attribution(index, source, CORPUS, **options)


TABLE = dict(zip(CORPUS, [(1, 0), (0, 2), (-1, 0.5), (3, 3), (0, 0)], strict=True))
FAILURE = Failure("jump thrice", "JUMP JUMP JUMP")
QUERY = Text("jump thrice", "JUMP JUMP JUMP")


@pytest.mark.parametrize("examples", [4, 40], ids=["fewer examples than numbers", "more"])
def test_each_block_is_solved_as_its_damped_mean_outer_product(examples: int) -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(examples, 8)).astype(np.float32), rng.normal(size=(2, 8)).astype(np.float32)
    expected = []
    for place in (slice(0, 3), slice(3, 8)):
        part = rows[:, place].astype(np.float64)
        fisher = part.T @ part / examples
        damped = fisher + 0.1 * np.trace(fisher) / len(fisher) * np.eye(len(fisher))
        expected.append(np.linalg.solve(damped, queries[:, place].T).T)
    solved = Curvature(BLOCKS, rows, damping=0.1).solve(queries)
    np.testing.assert_allclose(solved, np.concatenate(expected, axis=1), rtol=1e-4)


def test_a_module_that_no_example_reaches_is_left_as_it_is() -> None:
    rows = np.ones((6, 8), np.float32)
    rows[:, :3] = 0
    solved = Curvature(BLOCKS, rows).solve(np.ones((1, 8), np.float32))
    np.testing.assert_array_equal(solved[0, :3], [1, 1, 1])
    assert np.isfinite(solved).all()


def test_damping_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="damping is 0"):
        Curvature(BLOCKS, np.ones((2, 8), np.float32), damping=0)


def test_plain_influence_is_the_inner_product(tmp_path: Path) -> None:
    scores = attribution(tmp_path, {**TABLE, QUERY: (2, 1)}, damping=None).scores([FAILURE])
    np.testing.assert_allclose(scores, [[2, 2, -1.5, 9, 0]])


def test_cosine_leaves_the_norms_out(tmp_path: Path) -> None:
    scores = attribution(tmp_path, {**TABLE, QUERY: (2, 0)}, damping=None, is_cosine=True).scores([FAILURE])
    np.testing.assert_allclose(scores, [[1, 0, -1 / np.sqrt(1.25), 1 / np.sqrt(2), 0]], rtol=1e-6)


def test_a_contrast_asks_for_the_target_less_the_wrong_output(tmp_path: Path) -> None:
    wrong = Text("jump thrice", "JUMP")
    asked = attribution(tmp_path, {**TABLE, QUERY: (2, 1), wrong: (0, 3)}, damping=None)
    scores = asked.scores([Failure("jump thrice", "JUMP JUMP JUMP", wrong_output="JUMP"), FAILURE])
    np.testing.assert_allclose(scores, [[2, -4, -3, 0, 0], [2, 2, -1.5, 9, 0]])


def test_proponents_and_opponents_come_strongest_first_with_both_scores(tmp_path: Path) -> None:
    asked = attribution(tmp_path, {**TABLE, QUERY: (2, -1)}, damping=None, retriever=Bm25())
    ranking = asked.rank([FAILURE], top=2)
    assert [row.at for row in ranking.proponents] == [3, 0]
    assert [row.at for row in ranking.opponents] == [2, 1]
    likeness = {row.at: row.likeness for row in (*ranking.proponents, *ranking.opponents)}
    assert likeness[0] is not None
    assert likeness[0] > 0 == likeness[3]


def test_with_every_example_as_candidate_the_prefilter_changes_nothing(tmp_path: Path) -> None:
    asked = attribution(tmp_path, {**TABLE, QUERY: (2, 1)}, retriever=Bm25())
    assert asked.rank([FAILURE], candidate_count=len(CORPUS)) == asked.rank([FAILURE])


def test_the_prefilter_looks_at_the_most_alike_alone(tmp_path: Path) -> None:
    ranking = attribution(tmp_path, {**TABLE, QUERY: (2, 1)}, retriever=Bm25()).rank([FAILURE], candidate_count=2)
    assert ranking.candidate_count == 2
    assert {row.at for row in (*ranking.proponents, *ranking.opponents)} == {0, 2}


def test_candidates_without_a_retriever_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no retriever"):
        attribution(tmp_path, {**TABLE, QUERY: (2, 1)}).rank([FAILURE], candidate_count=2)


def test_an_index_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    class Another(TableSource):
        identity = "ef" * 32

    source = TableSource(TABLE)
    index, _ = build_index(source, CORPUS, root=tmp_path)
    with pytest.raises(Permanent, match="another checkpoint or other settings"):
        Attribution(index, Another(TABLE), CORPUS)
    with pytest.raises(Permanent, match="lacks 1 of 6 texts"):
        Attribution(index, source, [*CORPUS, Text("new", "NEW")])


def test_equal_scores_keep_the_order_of_the_corpus() -> None:
    ranking = ranked(np.array([1, 1, -1, -1], np.float32), None, [4, 2, 9, 7], top=5)
    assert [row.at for row in ranking.proponents] == [2, 4]
    assert [row.at for row in ranking.opponents] == [9, 7]


def test_candidates_are_the_union_over_the_queries() -> None:
    assert likeliest(np.array([[0, 9, 1], [5, 0, 4]], np.float32), count=1) == [0, 1]


def test_a_query_without_a_word_of_the_corpus_is_like_nothing() -> None:
    engine = Bm25()
    engine.fit(["one two", "two three"])
    scores = engine.scores(["four", "three"])
    assert (scores[0] == 0).all()
    assert scores[1, 1] > scores[1, 0] == 0
