"""Axes by rule: a regular expression or a field of the document gives the value. Declared in a recipe.

Knows texts and documents; knows no task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mendloop.axes.form import bucket
from mendloop.axes.subject import Subject
from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes


class AxisRule(BaseModel):
    """One axis. Exactly one of `values`, `capture`, `count`, or none of them: then the field itself is the value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axis: str = Field(min_length=1, description="Name of the axis.")
    field: str = Field("prompt", description="prompt, target, or document.NAME (dots go deeper).")
    values: dict[str, str] = Field(default_factory=dict, description="Value: expression. Each that is found holds.")
    capture: str = Field("", description="Expression with one group; every text that it catches is a value.")
    count: str = Field("", description="Expression; the value is the range that the number of matches lies in.")
    bounds: list[int] = Field(default_factory=lambda: [1, 2, 4, 8], description="Upper ends of the ranges of count.")
    otherwise: str = Field("", description="Value where nothing is found; empty: the item has none on this axis.")

    @field_validator("field")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ("prompt", "target") and not name.startswith("document."):
            raise ValueError(f"{name!r} is no field; use prompt, target or document.NAME")
        return name

    @model_validator(mode="after")
    def _is_one_rule(self) -> AxisRule:
        if sum(map(bool, (self.values, self.capture, self.count))) > 1:
            raise ValueError("use one of values, capture and count")
        for expression in (*self.values.values(), self.capture, self.count):
            groups = _compiled(expression).groups
            if expression == self.capture and expression and groups != 1:
                raise ValueError(f"capture {expression!r} has {groups} groups; it needs one")
        if list(self.bounds) != sorted(set(self.bounds)) or not self.bounds or self.bounds[0] < 1:
            raise ValueError(f"bounds are {self.bounds}; they must rise from 1 or more")
        return self


@dataclass(frozen=True, slots=True)
class RuleAxes:
    """The annotator of some rules. Several rules may speak about one axis: then their values add up."""

    rules: tuple[AxisRule, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of the rules, in their order."""
        return tuple(dict.fromkeys(rule.axis for rule in self.rules))

    def values(self, subject: Subject) -> Axes:
        """Values on the axes of which a rule's field is there."""
        found: dict[str, tuple[str, ...]] = {}
        for rule in self.rules:
            text = _text(subject, rule.field)
            if text is None:
                continue
            values = _values(rule, text) or ((rule.otherwise,) if rule.otherwise else ())
            joined = tuple(dict.fromkeys((*found.get(rule.axis, ()), *values)))
            if joined:
                found[rule.axis] = joined
        return found


def parse_rules(documents: Sequence[Mapping[str, Any]], *, place: str = "suite.axis_rules") -> RuleAxes:
    """The rules of a recipe. Raises InvalidRecipe that names the rule and the field."""
    rules = []
    for number, document in enumerate(documents):
        try:
            rules.append(AxisRule.model_validate(dict(document)))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, (place, number, *fault["loc"])))
            raise InvalidRecipe(f"{where}: {fault['msg']} (value: {fault['input']!r}); correct it") from error
    return RuleAxes(tuple(rules))


def _values(rule: AxisRule, text: str) -> tuple[str, ...]:
    if rule.values:
        return tuple(value for value, expression in rule.values.items() if _compiled(expression).search(text))
    if rule.capture:
        return tuple(dict.fromkeys(value for value in _compiled(rule.capture).findall(text) if value))
    if rule.count:
        return (bucket(len(_compiled(rule.count).findall(text)), rule.bounds),)
    return (text,) if text else ()


def _text(subject: Subject, field: str) -> str | None:
    """The text of a field; None where the subject has no such field, e.g. a prompt of which no target is known."""
    if field == "prompt":
        return subject.prompt
    if field == "target":
        return subject.target or None
    value: object = subject.document
    for name in field.split(".")[1:]:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return None if value is None else str(value)


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression, re.MULTILINE)
    except re.error as error:
        raise ValueError(f"{expression!r} is no regular expression: {error}") from error
