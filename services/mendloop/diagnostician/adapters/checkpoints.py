"""Checkpoints as models: loaded at first use and kept, because the slices of one evaluation follow each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact, Permanent
from mendloop.models.checkpoint import open_checkpoint
from mendloop.models.generation import Generation, LanguageModel, TokenLogprobs


class StoredCheckpoints:
    """Opens checkpoints of the artifact store with a loader; holds at most one in memory."""

    def __init__(self, store: ArtifactStore, *, cache: Path, load: Callable[[Path], LanguageModel]) -> None:
        self._store, self._cache, self._load = store, cache, load
        self._held: tuple[str, LanguageModel] | None = None

    def open(self, checkpoint: Artifact) -> LanguageModel:
        """A model that loads its weights when it is first asked; a verdict from stored outputs loads none."""
        return _Deferred(lambda: self._loaded(checkpoint))

    def uses_gpu(self) -> bool:
        """Whether the model in memory runs on a GPU; False while none is loaded."""
        return self._held is not None and bool(getattr(self._held[1], "uses_gpu", False))

    def _loaded(self, checkpoint: Artifact) -> LanguageModel:
        if self._held is None or self._held[0] != checkpoint.sha256:
            self._held = None  # the old weights go before the new ones come
            directory = open_checkpoint(self._store, checkpoint, cache=self._cache)
            try:
                self._held = (checkpoint.sha256, self._load(directory))
            except Permanent as error:  # told apart from a probe that the model refuses: that one is evidence
                raise CorruptArtifact(f"checkpoint {checkpoint.sha256[:12]} does not load: {error}") from error
        return self._held[1]


class _Deferred:
    def __init__(self, load: Callable[[], LanguageModel]) -> None:
        self._load = load

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        return self._load().generate(prompts, max_new_tokens=max_new_tokens, stop=stop)

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        return self._load().logprobs(prompts, completions)
