"""The shipped SCAN base was made from the shipped recipes' corpus, never saw their items, and can be rebuilt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item
from mendloop.core.run_spec import RunSpec
from mendloop.core.training import counted_settings
from mendloop.examples.scan.grammar import is_composed
from mendloop.examples.scan.make_base import (
    BASE,
    RECORD,
    SEED,
    SETTINGS,
    Build,
    base_corpus,
    corpus_hash,
    make_base,
    shipped_recipes,
)
from mendloop.examples.scan.model import TEMPLATE, build_model, build_tokenizer
from mendloop.examples.scan.task import ScanTask
from mendloop.models.transformers_backend import load_model
from mendloop.submission.submit import resolve


def _resolved(recipe: Recipe, folder: Path) -> tuple[RunSpec, ArtifactStore, ArtifactStore]:
    store, sealed = ArtifactStore((folder / "store").as_uri()), ArtifactStore((folder / "sealed").as_uri())
    return resolve(recipe, store=store, sealed_store=sealed, base_dir=folder), store, sealed


def _accuracy(directory: Path, items: list[Item]) -> tuple[float, float]:
    """Accuracy in distribution and on what the corpus withholds."""
    outputs = load_model(directory).generate([TEMPLATE.format(prompt=i.prompt) for i in items], max_new_tokens=64)
    task = ScanTask({})
    right = {i.item_id: task.score(i, o.text).value for i, o in zip(items, outputs, strict=True)}
    withheld = [right[i.item_id] for i in items if is_composed(i.prompt, primitive="jump")]
    inside = [right[i.item_id] for i in items if not is_composed(i.prompt, primitive="jump")]
    return sum(inside) / len(inside), sum(withheld) / len(withheld)


def _items_of_shipped_recipe() -> list[Item]:
    recipe = next(r for r in shipped_recipes() if r.suite.options["domain"] == "all")
    counts = {"search": recipe.suite.search, "confirm": recipe.suite.confirm, "sealed": recipe.suite.sealed}
    return ScanTask(recipe.suite.options).items(counts=counts, seed=recipe.seed)


def test_shipped_base_was_trained_on_todays_corpus_with_todays_settings() -> None:
    record = json.loads((BASE / RECORD).read_text())
    corpus = base_corpus(shipped_recipes())
    assert record["corpus"] == {"count": len(corpus), "sha256": corpus_hash(corpus)}, "run make base-checkpoint"
    assert record["settings"] == counted_settings(SETTINGS), "run make base-checkpoint"
    assert (record["seed"], record["template"]) == (SEED, TEMPLATE)


def test_base_corpus_is_what_submission_leaves_of_every_shipped_recipe(tmp_path: Path) -> None:
    left: list[set[str]] = []
    items: set[str] = set()
    for recipe in shipped_recipes():
        spec, store, sealed = _resolved(recipe, tmp_path / recipe.name)
        left.append({example.prompt for example in get_rows(store, spec.corpus, kind=Example)})
        items |= {item.prompt for item in get_rows(store, spec.items, kind=Item)}
        assert spec.sealed_items is not None
        items |= {item.prompt for item in get_rows(sealed, spec.sealed_items, kind=Item)}
    trained = {example.prompt for example in base_corpus(shipped_recipes())}
    assert trained == set.intersection(*left)
    assert not trained & items


def test_shipped_recipes_put_the_prompt_as_the_base_learnt_it() -> None:
    assert {recipe.template for recipe in shipped_recipes()} == {TEMPLATE}
    assert {recipe.base.model for recipe in shipped_recipes()} == {"package:scan/base"}


def test_shipped_base_is_small_and_holds_no_path_of_the_machine_that_made_it() -> None:
    paths = [path for path in BASE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in paths) < 1_000_000
    for path in paths:
        if path.suffix == ".json":
            assert "/tmp" not in path.read_text()
            assert str(Path.home()) not in path.read_text()


def test_untrained_model_depends_on_its_seed_and_ties_no_embeddings() -> None:
    tokenizer = build_tokenizer()
    first, again, other = (build_model(tokenizer, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["lm_head.weight"].equal(other["lm_head.weight"])
    assert not first["lm_head.weight"].equal(first["model.embed_tokens.weight"])


def test_shipped_base_knows_its_corpus_and_nothing_of_what_it_lacks() -> None:
    inside, withheld = _accuracy(BASE, _items_of_shipped_recipe()[:400])
    assert inside >= 0.97
    assert withheld <= 0.03


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_rebuilt_base_performs_like_the_shipped_one(tmp_path: Path) -> None:
    """All steps, the same code: about a minute on one free core, several on a loaded machine."""
    steps: list[int] = []
    make_base(tmp_path / "base", build=Build(), on_step=lambda step, tokens: steps.append(step))
    items = _items_of_shipped_recipe()
    shipped, rebuilt = _accuracy(BASE, items), _accuracy(tmp_path / "base", items)
    assert steps[-1] == SETTINGS.steps
    assert abs(shipped[0] - rebuilt[0]) <= 0.02, "764 items: two standard errors of an accuracy of .98 are .01"
    assert rebuilt[1] <= 0.03
