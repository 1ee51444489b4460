"""Reads a recipe from a request's body, JSON or YAML, with a fault for each wrong field."""

from __future__ import annotations

import json

import yaml
from pydantic import ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe, parse_recipe
from mendloop.gateway.adapters.problems import field_faults
from mendloop.gateway.domain.refusals import Invalid, Malformed

JSON = "application/json"
MAX_DEPTH, MAX_EVENTS, MAX_FAULTS = 20, 5_000, 50
_EventLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
YAML = ("application/yaml", "application/x-yaml", "text/yaml")


class UnsupportedMediaType(Exception):
    """The body is of a type that is not read."""


def read_recipe(body: bytes, *, content_type: str) -> Recipe:
    """The recipe. Raises Malformed for what is no JSON or YAML mapping, Invalid with faults for wrong fields, and
    UnsupportedMediaType."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (JSON, *YAML):
        raise UnsupportedMediaType(f"the body is {kind or 'of no type'}; send a recipe as {JSON} or {YAML[0]}")
    try:
        text = body.decode()
        return _from_json(text) if kind == JSON else _from_yaml(text)
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None


def _from_json(text: str) -> Recipe:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Malformed("the body is not a JSON object of recipe fields")
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise _invalid(error) from error


def _from_yaml(text: str) -> Recipe:
    try:
        _check_size(text)
        return parse_recipe(text, source="recipe")
    except yaml.YAMLError as error:
        raise Malformed(f"the body is not YAML: {error}") from None
    except InvalidRecipe as error:
        if isinstance(error.__cause__, ValidationError):
            raise _invalid(error.__cause__) from error
        raise Malformed(str(error)) from error


def _check_size(text: str) -> None:
    """Refuses what a few kilobytes of YAML can do: aliases that expand to gigabytes, and nesting, for which PyYAML
    takes time that grows with its square (4,000 brackets: seconds)."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_EventLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise Malformed("the recipe has YAML aliases, which are not read here; write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or count > MAX_EVENTS:
            raise Malformed(f"the body is nested deeper than {MAX_DEPTH} or has more than {MAX_EVENTS} values")


def _invalid(error: ValidationError) -> Invalid:
    faults = field_faults(error.errors(include_url=False, include_context=False))
    names = ", ".join(fault.field for fault in faults[:5])
    return Invalid(f"{len(faults)} field(s) of the recipe are wrong: {names}", faults=faults[:MAX_FAULTS])
