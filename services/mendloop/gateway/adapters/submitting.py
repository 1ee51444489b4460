"""Submission as the gateway does it: models only from one folder, and pyarrow loaded with the first run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Bus
from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Submission:
    """submission.submit with the gateway's stores. A recipe from the net names no file outside models_dir."""

    bus: Bus
    store: ArtifactStore
    sealed_store: ArtifactStore
    models_dir: Path

    def __call__(self, recipe: Recipe, *, run_id: str, requested_by: str) -> None:
        """Publish LoopRequested. Raises InvalidRecipe where the recipe cannot run."""
        self._check_model(recipe.base.model)
        if recipe.suite.axes_reader is not None:
            raise InvalidRecipe(
                "suite.axes_reader names files and an address that this gateway would read and ask; over the network it"
                " is refused: submit the recipe with `mend run` beside the stores"
            )
        if recipe.teacher is not None:
            raise InvalidRecipe(
                "teacher names a file and an address that the data generator would read and ask; over the network it is"
                " refused: submit the recipe with `mend run` beside the stores"
            )
        # Loaded here: pyarrow more than doubles the memory of a gateway that only shows runs.
        from mendloop.submission.submit import submit

        submit(
            recipe,
            bus=self.bus,
            store=self.store,
            sealed_store=self.sealed_store,
            base_dir=self.models_dir,
            run_id=run_id,
            requested_by=requested_by,
        )

    def _check_model(self, model: str) -> None:
        if model.startswith("package:"):
            return
        root = self.models_dir.resolve()
        if not (root / model).resolve().is_relative_to(root):
            raise InvalidRecipe(
                f"base.model is {model!r}; over the network only package:NAME and directories in the gateway's"
                " models_dir may be named"
            )
