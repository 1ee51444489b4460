"""Slices as a person reads them."""

from __future__ import annotations

from mendloop.controller.domain.records import Conditions


def in_words(conditions: Conditions) -> str:
    """A slice as a person reads it."""
    return " ∧ ".join(f"{axis}={value}" for axis, value in sorted(conditions)) or "all items"
