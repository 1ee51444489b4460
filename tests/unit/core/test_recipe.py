"""A bad recipe says line, field, value and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import recipe
from pydantic import ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe, load_recipe, parse_recipe

GOOD = """\
name: tiny
task: scan
template: "IN: {prompt} OUT:"
base:
  model: package:scan/base
suite:
  axes: [verb]
  search: 100
"""


def test_good_recipe_is_read_with_its_defaults() -> None:
    recipe = parse_recipe(GOOD, source="r.yaml")
    assert (recipe.name, recipe.suite.search, recipe.budget.new_examples) == ("tiny", 100, 64)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("  search: 100", "  serach: 100"), ["r.yaml:8", "suite.serach", "100", "remove it or correct its name"]),
        (("  search: 100", "  search: few"), ["r.yaml:8", "suite.search", "'few'"]),
        (("  axes: [verb]", "  axes: []"), ["r.yaml:7", "suite.axes", "[]"]),
        (("name: tiny", "name: Tiny Name"), ["r.yaml:1", "name", "'Tiny Name'"]),
        (("  model: package:scan/base", "  train: {steps: 0}"), ["r.yaml:5", "base.train.steps", "0"]),
        (("  search: 100", "  repeats: 4"), ["r.yaml:6", "suite", "repeats is 4 with temperature 0"]),
        (("  search: 100", "  backend: llama.cpp"), ["r.yaml:8", "suite.backend", "'llama.cpp'"]),
        (("task: scan\n", ""), ["task", "Field required", "add it"]),
    ],
)
def test_bad_field_is_named_with_its_line(change: tuple[str, str], parts: list[str]) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(GOOD.replace(*change), source="r.yaml")
    for part in parts:
        assert part in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace("search: 100", "search: few") + "colour: red\n"
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(text, source="r.yaml")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [unclosed", "just words"])
def test_text_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(InvalidRecipe, match=r"r\.yaml"):
        parse_recipe(text, source="r.yaml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"no\.yaml.*No such file"):
        load_recipe(tmp_path / "no.yaml")


def test_schema_describes_every_field() -> None:
    schema = Recipe.model_json_schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False


def test_arms_are_typed_and_stand_once() -> None:
    arms = recipe(arms=["random", {"oracle": [{"verb": "jump"}, {"turn": "left", "manner": "around"}]}]).control_arms
    assert [arm.name for arm in arms] == ["random", "oracle"]
    assert arms[1].regions == ((("verb", "jump"),), (("manner", "around"), ("turn", "left")))
    for wrong in (
        ["randm"],
        ["random", "random"],
        [{"oracle": {}}],
        [{"oracle": []}],
        [{"oracle": {"a": "b"}, "x": 1}],
    ):
        with pytest.raises(ValidationError, match="arms"):
            recipe(arms=wrong)


def test_recipe_without_arms_has_the_bytes_that_it_had_before_there_were_any() -> None:
    told = recipe(arms=["random"])
    assert "arms" not in recipe().model_dump_json()
    assert told.model_dump(mode="json")["arms"] == ["random"]
    assert Recipe.model_validate(told.model_dump(mode="json")) == told
