"""Axis values by form and by rule, on items, examples and bare texts."""

from __future__ import annotations

from typing import Any

import pytest
from builders import example, item

from mendloop.axes.annotate import annotated
from mendloop.axes.form import FormAxes, bucket, target_type
from mendloop.axes.rules import parse_rules
from mendloop.axes.subject import Subject
from mendloop.axes.task import with_axes
from mendloop.core.errors import InvalidRecipe
from mendloop.core.tasks import find_task


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("42", "number"),
        ("-3.5", "number"),
        ("$1,200", "number"),
        ("3/4", "number"),
        ("(B)", "choice"),
        ("C", "choice"),
        ("Yes", "boolean"),
        ("False", "boolean"),
        ("12/25/1937", "date"),
        ("] ] >", "symbols"),
        ("apple, pear, plum", "list"),
        ("['a', 'b']", "list"),
        ("barn", "word"),
        ("barn damp dot", "text"),
        ("We went home, and after a long while it began to rain.", "text"),
    ],
)
def test_the_type_of_a_target_is_read_from_its_form(target: str, expected: str) -> None:
    assert target_type(target) == expected


def test_buckets_cover_every_count_once() -> None:
    names = [bucket(n, (1, 3, 8)) for n in range(11)]

    assert names == ["0", "1", "2-3", "2-3", *["4-8"] * 5, "9+", "9+"]


def test_form_axes_need_no_target() -> None:
    prompt = "Which is red?\nOptions:\n(A) the cup\n(B) the bag"

    alone, with_target = FormAxes().values(Subject(prompt)), FormAxes().values(Subject(prompt, "(A)"))

    assert alone["option_count"] == ("1-2",)
    assert alone["prompt_form"] == ("options",)
    assert "target_type" not in alone
    assert with_target["target_type"] == ("choice",)


@pytest.mark.parametrize(
    ("prompt", "form"),
    [("((-1 + 2) * 5) =", "expression"), ("How many are left?", "question"), ("Sort these words: a b", "statement")],
)
def test_the_form_of_a_prompt_is_read_from_its_words(prompt: str, form: str) -> None:
    assert FormAxes().values(Subject(prompt))["prompt_form"] == (form,)


def test_a_rule_gives_every_value_whose_expression_is_found() -> None:
    rules = parse_rules([{"axis": "op", "values": {"plus": r"\+", "times": r"\*"}, "otherwise": "none"}])

    assert rules.values(Subject("1 + 2 * 3")) == {"op": ("plus", "times")}
    assert rules.values(Subject("7")) == {"op": ("none",)}


def test_rules_capture_count_and_take_fields() -> None:
    rules = parse_rules(
        [
            {"axis": "unit", "capture": r"\d+ (\w+)"},
            {"axis": "steps", "count": "Take", "bounds": [1, 3]},
            {"axis": "subject", "field": "document.meta.subject"},
            {"axis": "sign", "field": "target", "values": {"negative": "^-"}},
        ]
    )

    found = rules.values(Subject("Take 3 steps. Take 2 turns.", "-1", {"meta": {"subject": "algebra"}}))

    assert found == {"unit": ("steps", "turns"), "steps": ("2-3",), "subject": ("algebra",), "sign": ("negative",)}


def test_a_field_that_a_text_lacks_leaves_the_axis_out() -> None:
    rules = parse_rules(
        [
            {"axis": "subject", "field": "document.subject", "otherwise": "none"},
            {"axis": "sign", "field": "target", "values": {"negative": "^-"}, "otherwise": "positive"},
        ]
    )

    assert rules.values(Subject("a prompt of the corpus")) == {}


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"axis": "a", "values": {"x": "("}}, r"suite.axis_rules.0.*no regular expression"),
        ({"axis": "a", "capture": "x"}, "0 groups; it needs one"),
        ({"axis": "a", "values": {"x": "x"}, "count": "x"}, "one of values, capture and count"),
        ({"axis": "a", "field": "output"}, "'output' is no field"),
        ({"axis": "a", "regex": "x"}, r"suite.axis_rules.0.regex"),
        ({"axis": "a", "count": "x", "bounds": [3, 2]}, "must rise"),
    ],
)
def test_a_wrong_rule_is_named_with_what_to_do(rule: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRecipe, match=complaint):
        parse_rules([rule])


def test_only_wanted_axes_are_added_and_a_task_s_own_values_stay() -> None:
    rules = parse_rules([{"axis": "verb", "values": {"other": "walk"}}, {"axis": "word", "capture": r"(\w+)"}])
    rows = [item(prompt="walk far", verb="walk")]

    (row,) = annotated(rows, [rules, FormAxes()], axes=["verb", "word", "target_length"])

    assert row.axes == {"verb": ("walk",), "word": ("walk", "far"), "target_length": ("1",)}


def test_examples_get_the_same_axes_as_items() -> None:
    (row,) = annotated([example("How many?", completion="12")], [FormAxes()])

    assert row.axes["target_type"] == ("number",)
    assert row.axes["prompt_form"] == ("question",)


def test_a_task_s_prompts_get_the_recipe_s_axes_beside_its_own() -> None:
    scan = find_task("scan", {})
    rules = [{"axis": "word", "capture": r"\b(jump|walk)\b"}]

    task = with_axes(scan, rules=rules, axes=["verb", "word", "prompt_length"])

    assert task.annotate("jump left") == {**scan.annotate("jump left"), "word": ("jump",), "prompt_length": ("1-8",)}
    assert task.verify("jump", "I_JUMP")
    assert with_axes(scan, rules=rules, axes=["verb"]) is scan
