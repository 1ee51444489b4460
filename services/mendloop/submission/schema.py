"""The recipe's JSON Schema, for editors and for the gateway's description. Needs no task and no model."""

from __future__ import annotations

from typing import Any

from mendloop.core.recipe import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema(*, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """The schema of a recipe with a description for each field; sections stand under $defs."""
    return {"$schema": DIALECT, "title": "Mendloop recipe", **Recipe.model_json_schema(ref_template=ref_template)}
