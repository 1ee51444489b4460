"""The run specification: a recipe with every artifact that it names. A service needs it and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.axes.task import with_axes
from mendloop.core.recipe import Recipe
from mendloop.core.tasks import Task, find_task

MEDIA_TYPE = "application/vnd.mendloop.run-spec+json"


def without_address(artifact: Artifact | None) -> Artifact | None:
    """A sealed artifact as the specification tells of it, which every service reads: what it is, not where it lies."""
    return replace(artifact, uri="") if artifact else None


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What a run works on. The sealed items lie in a store of their own, for the evaluator alone."""

    recipe: Recipe
    base: Artifact
    corpus: Artifact
    pool: Artifact | None
    items: Artifact
    sealed_items: Artifact | None
    fingerprints: Artifact
    twins: Artifact | None = None
    """Fresh twins of the items for each round, in the sealed store; None where the suite has none."""

    def store(self, store: ArtifactStore) -> Artifact:
        """Write the specification as JSON."""
        document = {
            "recipe": self.recipe.model_dump(mode="json"),
            **{name: asdict(value) if value else None for name, value in self._artifacts().items()},
        }
        return store.put(json.dumps(document, sort_keys=True).encode(), media_type=MEDIA_TYPE)

    def task(self) -> Task:
        """The run's task family; its prompts get the axes of the recipe's rules too."""
        suite = self.recipe.suite
        return with_axes(find_task(self.recipe.task, suite.options), rules=suite.axis_rules, axes=suite.axes)

    def prompt(self, text: str) -> str:
        """A prompt in the run's template, as the model sees it in training and evaluation."""
        return self.recipe.template.format(prompt=text)

    def _artifacts(self) -> dict[str, Artifact | None]:
        return {
            "base": self.base,
            "corpus": self.corpus,
            "pool": self.pool,
            "items": self.items,
            "sealed_items": without_address(self.sealed_items),
            "fingerprints": self.fingerprints,
            "twins": without_address(self.twins),
        }

    @staticmethod
    def load(store: ArtifactStore, artifact: Artifact) -> RunSpec:
        """Read a specification; raises CorruptArtifact where its bytes changed."""
        document = json.loads(store.get(artifact))
        sealed, pool, twins = document["sealed_items"], document["pool"], document.get("twins")
        return RunSpec(
            recipe=Recipe.model_validate(document["recipe"]),
            base=Artifact(**document["base"]),
            corpus=Artifact(**document["corpus"]),
            pool=Artifact(**pool) if pool else None,
            items=Artifact(**document["items"]),
            sealed_items=Artifact(**sealed) if sealed else None,
            fingerprints=Artifact(**document["fingerprints"]),
            twins=Artifact(**twins) if twins else None,
        )
