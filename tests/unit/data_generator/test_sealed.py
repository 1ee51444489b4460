"""The generator learns nothing of sealed items but their fingerprints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from builders import item, recipe, run_spec
from generator_world import BIG, ListedSource, Stage, drops, plan, sum_of

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.errors import CorruptArtifact
from mendloop.core.records import Example, Item, Outcome, fingerprint
from mendloop.data_generator.settings import Settings

SEALED = [
    item(f"sealed-{number}", prompt=f"add 777{number} 3", target=str(7773 + number), split="sealed")
    for number in range(3)
]


def everything_in(store: ArtifactStore, folder: Path) -> str:
    """All that the artifacts of a store say, tables read as rows."""
    said = []
    for path in (folder / "objects").rglob("*"):
        if not path.is_file():
            continue
        artifact = store.find(path.name)
        assert artifact is not None
        said.append(store.get(artifact).decode(errors="replace"))
        for kind in (Item, Example, Outcome):
            try:
                said += [str(row) for row in get_rows(store, artifact, kind=kind)]
            except CorruptArtifact:
                continue  # an object of another kind
    return "\n".join(said)


def test_settings_have_no_field_for_the_sealed_store() -> None:
    assert [name for name in Settings.model_fields if "seal" in name] == []


def test_the_address_of_the_sealed_store_in_the_environment_is_not_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENDLOOP_SEALED_ARTIFACTS_URI", "file:///the-sealed-store")

    assert "the-sealed-store" not in repr(Settings.from_environment())


def test_sealed_rows_cannot_be_reached_from_what_the_generator_can_read(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "artifacts")
    sealed_store = ArtifactStore(tmp_path / "sealed")
    spec = run_spec(
        stage.store,
        sealed_store=sealed_store,
        sealed=SEALED,
        corpus=stage.task.corpus({}),
        recipe=recipe(task="sums"),
        fingerprints=[fingerprint(row.prompt) for row in SEALED],
    )
    ready = stage.answer(plan(spec, store=stage.store, orders=[(BIG, 5)]))

    assert spec.sealed_items is not None
    assert get_rows(sealed_store, spec.sealed_items, kind=Item) == SEALED
    with pytest.raises(CorruptArtifact, match="missing"):
        stage.store.get(spec.sealed_items)
    said = everything_in(stage.store, tmp_path / "artifacts")
    assert stage.rows(ready)[0].prompt in said
    assert [row.prompt for row in SEALED if row.prompt in said or row.item_id in said] == []


def test_sealed_items_that_a_teacher_hits_upon_are_dropped(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "artifacts")
    stage.spec_parts = {"fingerprints": [fingerprint(row.prompt) for row in SEALED]}
    stage.sources = [ListedSource([sum_of(7770 + number, 3) for number in range(5)])]

    ready = stage.answer(stage.plan((BIG, 5)))

    assert {row.prompt for row in stage.rows(ready)} == {"add 7773 3", "add 7774 3"}
    assert drops(ready, "decontamination") == {"its prompt is an evaluation item": 3}


def test_the_service_imports_no_training_framework_and_no_other_service() -> None:
    code = (
        "import sys, mendloop.data_generator.__main__\n"
        "heavy = {'torch', 'transformers', 'vllm', 'datasets', 'accelerate', 'sqlalchemy', 'fastapi'}\n"
        "others = {f'mendloop.{n}' for n in ('evaluator', 'diagnostician', 'trainer', 'controller', 'gateway')}\n"
        "print(sorted((heavy | others) & set(sys.modules)))\n"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
