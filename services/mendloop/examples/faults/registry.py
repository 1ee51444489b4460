"""The families in which faults can be planted, by name. A family is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from mendloop.core.errors import InvalidRecipe
from mendloop.examples.faults.family import Family

FAMILIES = {
    "scan": "mendloop.examples.faults.families.scan:ScanFamily",
    "modular": "mendloop.examples.faults.families.modular:ModularFamily",
    "facts": "mendloop.examples.faults.families.facts:FactsFamily",
}


def find_family(name: str) -> Family:
    """The family of this name. Raises InvalidRecipe for an unknown one."""
    if name not in FAMILIES:
        raise InvalidRecipe(f"unknown fault family {name!r}; there are {', '.join(FAMILIES)}")
    module, _, attribute = FAMILIES[name].partition(":")
    return cast(Callable[[], Family], getattr(import_module(module), attribute))()
