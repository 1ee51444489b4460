"""Checkpoints as models: loaded at first use and kept, because the slices of one evaluation follow each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact, Permanent
from mendloop.models.checkpoint import open_checkpoint
from mendloop.models.generation import Generation, LanguageModel, Sampling, SamplingModel, TokenLogprobs

HELD_COUNT = 2
"""The checkpoint that is diagnosed, and the one that its training started from."""


class StoredCheckpoints:
    """Opens checkpoints of the artifact store with a loader; holds at most two in memory."""

    def __init__(self, store: ArtifactStore, *, cache: Path, load: Callable[[Path], LanguageModel]) -> None:
        self._store, self._cache, self._load = store, cache, load
        self._held: dict[str, LanguageModel] = {}
        """By hash, the one that was used last at the end."""

    def open(self, checkpoint: Artifact) -> LanguageModel:
        """A model that loads its weights when it is first asked; a verdict from stored outputs loads none."""
        return DeferredModel(lambda: self._loaded(checkpoint))

    def directory(self, checkpoint: Artifact) -> Path:
        """A local directory with the checkpoint's files, each verified by its hash."""
        return open_checkpoint(self._store, checkpoint, cache=self._cache)

    def uses_gpu(self) -> bool:
        """Whether the models in memory run on a GPU; False while none is loaded."""
        return any(getattr(model, "uses_gpu", False) for model in self._held.values())

    def _loaded(self, checkpoint: Artifact) -> LanguageModel:
        model = self._held.pop(checkpoint.sha256, None)
        if model is None:
            while len(self._held) >= HELD_COUNT:  # old weights go before new ones come
                self._held.pop(next(iter(self._held)))
            try:
                model = self._load(self.directory(checkpoint))
            except Permanent as error:  # told apart from a probe that the model refuses: that one is evidence
                raise CorruptArtifact(f"checkpoint {checkpoint.sha256[:12]} does not load: {error}") from error
        self._held[checkpoint.sha256] = model
        return model


class DeferredModel:
    """A model that is loaded when it is first asked; load is called each time and may keep what it loaded."""

    def __init__(self, load: Callable[[], LanguageModel]) -> None:
        self._load = load

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        return self._load().generate(prompts, max_new_tokens=max_new_tokens, stop=stop)

    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        model = self._load()
        if not isinstance(model, SamplingModel):
            raise Permanent("this backend draws no outputs at random")
        return model.sample(prompts, sampling=sampling, max_new_tokens=max_new_tokens, stop=stop)

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        return self._load().logprobs(prompts, completions)
