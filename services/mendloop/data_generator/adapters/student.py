"""The checkpoint that failed, as the student whose answers are drawn. Loaded at the first question; knows no slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import Permanent
from mendloop.core.events import stable_hash
from mendloop.core.run_spec import RunSpec
from mendloop.models.asking import scored_text
from mendloop.models.checkpoint import open_checkpoint
from mendloop.models.generation import LanguageModel, Sampling, SamplingModel


class CheckpointStudent:
    """Draws outputs in the run's template, cut as its suite cuts them."""

    def __init__(
        self,
        spec: RunSpec,
        checkpoint: Artifact,
        *,
        store: ArtifactStore,
        cache: Path,
        load: Callable[[Path], LanguageModel],
    ) -> None:
        self._spec, self._checkpoint, self._store, self._cache = spec, checkpoint, store, cache
        self._load, self._task = load, spec.task()
        self._model: SamplingModel | None = None
        self.token_count = 0
        """Tokens that it generated so far."""

    def answers(self, prompts: Sequence[str], *, temperature: float, seed: int) -> list[str]:
        """One draw a prompt; the same prompts with the same seed give the same draws on the same backend."""
        seeds = tuple(int(stable_hash("student", str(seed), str(at))[:12], 16) for at in range(len(prompts)))
        drawn = self._loaded().sample(
            [self._spec.prompt(prompt) for prompt in prompts],
            sampling=Sampling(temperature, 1.0, seeds),
            max_new_tokens=self._spec.recipe.suite.max_new_tokens,
            stop=self._task.stop_strings,
        )
        self.token_count += sum(one.output_token_count for one in drawn)
        return [scored_text(self._task, one) for one in drawn]

    def _loaded(self) -> SamplingModel:
        if self._model is None:
            model = self._load(open_checkpoint(self._store, self._checkpoint, cache=self._cache))
            if not isinstance(model, SamplingModel):
                raise Permanent("the student's backend draws no outputs: remove student_window from the recipe")
            self._model = model
        return self._model
