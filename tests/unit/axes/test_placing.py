"""Any prompt finds its nodes in a stored hierarchy; where it cannot, both services say why and count no zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from builders import example, recipe
from diagnosis_cases import GREEN, ToyModel, case_of, wrong_on
from generator_world import Stage, Sums, drops, sum_of
from numpy.typing import NDArray

from mendloop.artifacts.store import ArtifactStore
from mendloop.axes.hierarchy import Hierarchy
from mendloop.axes.placing import Places, places_of, unplaceable, with_places
from mendloop.core.errors import Permanent
from mendloop.core.records import Item
from mendloop.data_generator.handlers import Ports
from mendloop.diagnostician.domain.probes.corpus_coverage import CorpusCoverage
from mendloop.evaluator.clusters import open_clusters
from mendloop.evaluator.domain.hierarchy import tree_of, values_of
from mendloop.evaluator.domain.weakness import SliceRules
from mendloop.models.embeddings import TfidfSvd, restored

TOPICS = {
    "sort the words": ("apple", "pear", "plum"),
    "add the numbers": ("one", "two", "three"),
    "name the capital": ("France", "Peru", "Chad"),
    "close the brackets": ("round", "square", "curly"),
}


def _texts(n: int = 60, *, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{topic} {' '.join(rng.choice(words, 3))} {i}" for topic, words in TOPICS.items() for i in range(n)]


@dataclass
class BySize:
    """Small sums to the left, big ones to the right."""

    name: str = "by-size"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[1.0 if "1" in text.split()[1] else -1.0, 0.0] for text in texts], dtype=np.float32)

    def fit(self, texts: Sequence[str]) -> BySize:
        return self

    def to_bytes(self) -> bytes:
        return b""


def test_the_items_of_a_hierarchy_find_their_own_nodes_and_new_prompts_those_of_their_kind() -> None:
    texts, fresh = _texts(), _texts(5, seed=9)
    projector = TfidfSvd(dimensions=8).fit(texts)
    tree = tree_of(projector.embed(texts), texts, min_items=45)
    own = values_of(tree.nodes, item_count=len(texts))
    values = {node.path: node.value for node in tree.nodes}
    stored = Hierarchy(tree.cuts, values, "tfidf-svd:8", projector.to_bytes())

    read = Hierarchy.from_bytes(stored.to_bytes())
    places = Places(read, restored(read.embedder, read.state))

    assert places.of(texts) == own
    assert [found[-1] for found in places.of(fresh)] == [own[60 * (at // 5)][-1] for at in range(20)]


def test_a_projection_gives_the_vectors_that_the_embedder_gives() -> None:
    texts = _texts(10)

    assert np.allclose(TfidfSvd(dimensions=8).fit(texts).embed(texts), TfidfSvd(dimensions=8).embed(texts), atol=1e-6)


def test_another_sentence_model_than_the_hierarchys_is_refused() -> None:
    with pytest.raises(Permanent, match="was made with 'sentence-model:elsewhere'"):
        restored("sentence-model:elsewhere", b"", model="tfidf")


def _stage(folder: Path, *, axes: list[str]) -> Stage:
    suite = {"axes": axes, "search": 120, "confirm": 60, "sealed": 0, "min_items": 20}
    items = [
        Item(f"i{at}", sum_of(at % 90 + (100 if at % 2 else 20), 7).prompt, "1", "search" if at % 3 else "confirm")
        for at in range(180)
    ]
    pool = [replace(sum_of(100 + at, 5), axes={}) for at in range(40)] + [sum_of(20 + at, 5) for at in range(40)]
    return Stage(folder, spec_parts={"recipe": recipe(task="sums", suite=suite), "items": items, "pool": pool})


class PlacingStage(Stage):
    """A data generator that places prompts by the hierarchy of its run."""

    def ports(self) -> Ports:
        return replace(super().ports(), places=lambda spec: _places(self.store, spec.items.sha256, spec.recipe.suite))


def _places(store: ArtifactStore, items_sha: str, suite: object) -> Places | None:
    return places_of(items_sha, suite, store=store, open_embedder=lambda name, state: BySize())  # type: ignore[arg-type]  # a recipe's suite


def _built(stage: Stage) -> list[str]:
    """Lets the evaluator build and store the hierarchy; its nodes."""
    spec = stage.spec()
    clusters = open_clusters(spec, rules=SliceRules.of(spec.recipe.suite), store=stage.store, embedder=BySize())
    return sorted({value for values in clusters.values() for value in values})


def test_the_evaluators_hierarchy_places_prompts_of_other_services(tmp_path: Path) -> None:
    stage = _stage(tmp_path, axes=["cluster"])
    nodes = _built(stage)
    spec = stage.spec()

    places = _places(stage.store, spec.items.sha256, spec.recipe.suite)

    assert places is not None
    assert len(nodes) == 2
    assert sorted({value for (value,) in places.of(["add 150 3", "add 30 3"])}) == nodes
    assert with_places(Sums(), places).annotate("add 150 3")["cluster"] == places.of(["add 170 9"])[0]
    assert places_of("other items", spec.recipe.suite, store=stage.store, open_embedder=lambda n, s: BySize()) is None


def test_data_are_made_for_a_node_by_the_pool_and_by_a_teacher_that_knows_no_nodes(tmp_path: Path) -> None:
    plain = _stage(tmp_path, axes=["cluster"])
    _built(plain)
    stage = PlacingStage(tmp_path, spec_parts=plain.spec_parts)
    spec = stage.spec()
    places = _places(stage.store, spec.items.sha256, spec.recipe.suite)
    assert places is not None
    ((node,),) = places.of(["add 150 3"])

    ready = stage.answer(stage.plan(((("cluster", node),), 12)))

    rows = stage.rows(ready)
    assert len(rows) == 12
    assert all("1" in row.prompt.split()[1] for row in rows)
    assert all(row.axes["cluster"] == (node,) for row in rows)


def test_a_slice_of_right_answers_gets_no_data_and_the_ledger_says_why(tmp_path: Path) -> None:
    stage = _stage(tmp_path, axes=["target_length"])

    ready = stage.answer(stage.plan(((("target_length", "1"),), 5)))

    assert ready.example_count == 0
    (reason,) = drops(ready, "slice")
    assert "no example can be placed in this slice: axis 'target_length' is read from the right answer" in reason


def test_a_node_without_its_hierarchy_gets_no_data_and_the_ledger_says_why(tmp_path: Path) -> None:
    ready = (stage := _stage(tmp_path, axes=["cluster"])).answer(stage.plan(((("cluster", "0 sums"),), 5)))

    assert "needs the stored hierarchy" in next(iter(drops(ready, "slice")))


@pytest.mark.parametrize(
    ("suite", "axis", "said"),
    [
        ({"axes": ["verb"]}, "verb", ""),
        ({"axes": ["prompt_length"]}, "prompt_length", ""),
        ({"axes": ["kind"], "axis_rules": [{"axis": "kind", "field": "document.kind"}]}, "kind", "a bare prompt"),
        ({"axes": ["kind"], "axis_rules": [{"axis": "kind", "capture": "(x)"}]}, "kind", ""),
        ({"axes": ["target_type"]}, "target_type", "read from the right answer"),
    ],
)
def test_what_a_prompt_alone_cannot_tell_is_known_from_the_recipe(
    suite: dict[str, object], axis: str, said: str
) -> None:
    found = unplaceable([(axis, "x")], recipe(suite=suite).suite, places=None)

    assert said in found
    assert bool(found) == bool(said)


def test_the_corpus_is_not_said_to_lack_what_nobody_can_look_for() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=[example("bare prompt")])
    reason = "axis 'colour' is read from the right answer"

    rows = {row.measurement: row for row in CorpusCoverage().run(replace(case, not_placed=reason)) if not row.sample}

    assert (rows["distinct_prompts"].n, rows["sibling_ratio"].n) == (0, 0)
    assert "cannot be looked for in the corpus: axis 'colour'" in rows["distinct_prompts"].reading
    assert {row.measurement for row in CorpusCoverage().run(replace(case, not_placed=reason)) if row.sample} >= {
        "unseen_bigram_failed"
    }


def test_an_axis_that_was_read_off_the_corpus_when_it_was_stored_is_counted() -> None:
    case = replace(case_of(ToyModel(answers=wrong_on("green"))), not_placed="axis 'colour' is read elsewhere")

    rows = {row.measurement: row for row in CorpusCoverage().run(case) if not row.sample}

    assert GREEN[0][0] == "colour"
    assert rows["distinct_prompts"].n > 0
