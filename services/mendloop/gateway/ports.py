"""What the gateway's use cases need from outside."""

from __future__ import annotations

from typing import Protocol

from mendloop.core.recipe import Recipe


class Submit(Protocol):
    """Resolves a recipe and asks for the run."""

    def __call__(self, recipe: Recipe, *, run_id: str, requested_by: str) -> None:
        """Publish LoopRequested. Raises InvalidRecipe where the recipe cannot run. The same id twice is one run."""


class Documents(Protocol):
    """Small named documents that outlive the process."""

    def put_doc(self, namespace: str, name: str, data: bytes) -> None:
        """Write a document, replacing what is there."""

    def get_doc(self, namespace: str, name: str) -> bytes | None:
        """A document, or None."""
