"""A recipe that cannot run is refused with its field before anything starts; evaluation items never enter training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gateways import CountingTask, model_directory, recipe_document

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics
from mendloop.core.errors import InvalidRecipe, MendloopError
from mendloop.core.recipe import Recipe, parse_recipe
from mendloop.core.records import Example, Item, fingerprint
from mendloop.core.run_spec import RunSpec, without_address
from mendloop.submission import submit as submission
from mendloop.submission.schema import recipe_schema
from mendloop.submission.submit import FieldFault, resolve, submit


@pytest.fixture(autouse=True)
def _task(monkeypatch: pytest.MonkeyPatch) -> None:
    find_task = submission.find_task
    monkeypatch.setattr(
        submission,
        "find_task",
        lambda name, options: CountingTask() if name == "counting" else find_task(name, options),
    )


def _resolve(folder: Path, **changes: Any) -> RunSpec:
    recipe = Recipe.model_validate(recipe_document(**changes))
    return resolve(
        recipe, store=ArtifactStore(folder / "store"), sealed_store=ArtifactStore(folder / "sealed"), base_dir=folder
    )


def test_rewordings_of_a_family_without_other_words_are_refused(tmp_path: Path) -> None:
    model_directory(tmp_path)
    with pytest.raises(FieldFault, match="cannot say its prompts in other words") as fault:
        _resolve(tmp_path, rewordings=True)
    assert fault.value.field == "rewordings"


@pytest.mark.parametrize(
    ("arms", "said"), [(["random"], "draws from the pool"), ([{"oracle": {"parity": "both"}}], "no item lies in")]
)
def test_control_arm_that_cannot_get_an_example_is_refused(tmp_path: Path, arms: list[Any], said: str) -> None:
    model_directory(tmp_path)
    with pytest.raises(FieldFault, match=said) as fault:
        _resolve(tmp_path, arms=arms)
    assert fault.value.field == "arms"


def test_evaluation_items_leave_corpus_and_pool(tmp_path: Path) -> None:
    model_directory(tmp_path)
    spec = _resolve(tmp_path, pool={"take": "all"})
    store = ArtifactStore(tmp_path / "store")
    assert [e.prompt for e in get_rows(store, spec.corpus, kind=Example)] == [f"number {n}" for n in range(10)]
    assert spec.pool is not None
    assert [e.prompt for e in get_rows(store, spec.pool, kind=Example)] == ["spare"]


def test_examples_that_share_words_with_an_item_leave_too_where_the_recipe_says_so(tmp_path: Path) -> None:
    model_directory(tmp_path)
    with pytest.raises(FieldFault, match="has no example left"):  # every number is one of an item's three words
        _resolve(tmp_path, decontamination={"ngram_words": 1, "ngram_share": 0.3})


def test_axes_of_the_recipe_stand_on_items_sealed_items_corpus_and_prompts(tmp_path: Path) -> None:
    model_directory(tmp_path)
    rule = {"axis": "digit", "capture": r"(\d)"}
    suite = {**recipe_document()["suite"], "axes": ["digit", "prompt_length"], "axis_rules": [rule]}
    spec = _resolve(tmp_path, suite=suite)
    assert spec.sealed_items is not None
    rows: list[Item | Example] = [
        *get_rows(ArtifactStore(tmp_path / "sealed"), spec.sealed_items, kind=Item),
        *get_rows(ArtifactStore(tmp_path / "store"), spec.items, kind=Item),
        *get_rows(ArtifactStore(tmp_path / "store"), spec.corpus, kind=Example),
    ]
    assert all(set(row.axes["digit"]) == {c for c in row.prompt if c.isdigit()} for row in rows)
    assert all(row.axes["prompt_length"] == ("1-8",) for row in rows)


def test_a_wrong_axis_rule_is_refused_with_its_field(tmp_path: Path) -> None:
    model_directory(tmp_path)
    suite = {**recipe_document()["suite"], "axis_rules": [{"axis": "digit", "capture": "no group"}]}
    with pytest.raises(FieldFault, match=r"suite.axis_rules.0.*needs one"):
        _resolve(tmp_path, suite=suite)


def test_sealed_items_lie_in_their_own_store_only(tmp_path: Path) -> None:
    model_directory(tmp_path)
    spec = _resolve(tmp_path)
    assert spec.sealed_items is not None
    sealed = get_rows(ArtifactStore(tmp_path / "sealed"), spec.sealed_items, kind=Item)
    open_items = get_rows(ArtifactStore(tmp_path / "store"), spec.items, kind=Item)
    assert {item.split for item in sealed} == {"sealed"}
    assert {item.split for item in open_items} == {"search", "confirm"}
    assert ArtifactStore(tmp_path / "store").find(spec.sealed_items.sha256) is None


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"corpus": {"source": "missing"}}, "corpus", "missing.jsonl does not exist"),
        ({"base": {"model": "nowhere"}}, "base.model", "nowhere does not exist"),
        ({"base": {"model": "empty"}}, "base.model", "has no weights"),
        ({"base": {"model": "package:../../secret"}}, "base.model", "ships with the package"),
        ({"task": "unheard-of"}, "task", "unknown task 'unheard-of'"),
        ({"template": "no placeholder"}, "template", "does not contain {prompt}"),
        ({"template": "{prompt} {answer}"}, "template", "cannot be filled"),
        ({"suite": {"axes": ["colour"]}}, "suite.axes", "unknown axis colour; the items have verb"),
        ({"gates": {"protected": ["colour"]}}, "gates.protected", "unknown axis colour"),
        ({"suite": {"axes": ["verb"], "search": 701}}, "suite", "'search': '700 of 701'"),
    ],
)
def test_recipe_that_cannot_run_names_its_field(
    tmp_path: Path, changes: dict[str, Any], field: str, message: str
) -> None:
    model_directory(tmp_path)
    model_directory(tmp_path, name="empty", weights=b"")
    with pytest.raises(FieldFault) as caught:
        _resolve(tmp_path, **changes)
    assert caught.value.field == field
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{field}: ")


def test_unknown_field_is_refused_with_its_line() -> None:
    text = "name: tiny\ntask: scan\nbase:\n  model: m\n  modle: n\nsuite:\n  axes: [verb]\n"
    with pytest.raises(InvalidRecipe, match=r"r\.yaml:5: base\.modle: .*remove it or correct its name"):
        parse_recipe(text, source="r.yaml")


def test_refused_recipe_publishes_nothing(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    with pytest.raises(InvalidRecipe):
        submit(
            Recipe.model_validate(recipe_document(base={"model": "nowhere"})),
            bus=bus,
            store=ArtifactStore(tmp_path / "store"),
            sealed_store=ArtifactStore(tmp_path / "sealed"),
            base_dir=tmp_path,
        )
    assert bus.read(all_topics()) == []


def test_same_run_asked_for_twice_is_one_event_id(tmp_path: Path) -> None:
    model_directory(tmp_path)
    bus = LocalBus(tmp_path / "bus.db")
    for _ in range(2):
        submit(
            Recipe.model_validate(recipe_document()),
            bus=bus,
            store=ArtifactStore(tmp_path / "store"),
            sealed_store=ArtifactStore(tmp_path / "sealed"),
            base_dir=tmp_path,
            run_id="r1",
        )
    deliveries = bus.read(all_topics())
    assert len(deliveries) == 2
    assert len({delivery.envelope.event_id for delivery in deliveries}) == 1
    assert len({delivery.envelope.value for delivery in deliveries}) == 1


def test_schema_describes_every_section() -> None:
    schema = recipe_schema()
    assert schema["additionalProperties"] is False
    assert {"TrainSettings", "SuiteSettings", "GateSettings"} <= set(schema["$defs"])
    assert schema["$defs"]["SuiteSettings"]["properties"]["weak_below"]["description"]


def test_twins_of_a_family_that_draws_none_are_refused_with_the_field(tmp_path: Path) -> None:
    model_directory(tmp_path)
    with pytest.raises(FieldFault, match="draws no twins") as caught:
        _resolve(tmp_path, suite={**recipe_document()["suite"], "twins": True})
    assert caught.value.field == "suite.twins"


class TwinningTask(CountingTask):
    """The twin of an item is a number of the corpus, or one that is not."""

    def twin(self, item: Item, *, seed: int) -> Item | None:
        number = 3 if item.item_id == "search-0" else 1000 + seed % 100_000
        return Item(f"n{number}", f"number {number}", str(number), item.split)


def test_twins_lie_in_the_sealed_store_and_leave_the_corpus_like_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_directory(tmp_path)
    monkeypatch.setattr(submission, "find_task", lambda name, options: TwinningTask())
    spec = _resolve(tmp_path, suite={**recipe_document()["suite"], "twins": True}, rounds=2)
    store, sealed = ArtifactStore(tmp_path / "store"), ArtifactStore(tmp_path / "sealed")
    assert spec.twins is not None
    twins = get_rows(sealed, spec.twins, kind=Item)
    assert len(twins) == 2 * 60 - 1  # one number was taken in the first round already
    marks = json.loads(store.get(spec.fingerprints))["fingerprints"]
    assert {fingerprint(twin.prompt) for twin in twins} <= set(marks)
    assert "number 3" not in {row.prompt for row in get_rows(store, spec.corpus, kind=Example)}
    assert RunSpec.load(store, spec.store(store)).twins == without_address(spec.twins)
    with pytest.raises(MendloopError):
        store.get(spec.twins)
