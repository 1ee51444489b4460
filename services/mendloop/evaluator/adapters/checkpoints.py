"""Checkpoints from the store, loaded through transformers or served by vLLM. Knows no item and no score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.evaluator.ports import MeteredModel
from mendloop.models.checkpoint import open_checkpoint
from mendloop.models.transformers_backend import load_model


class StoredCheckpoints:
    """A ModelLoader that keeps the last model: the shards of one evaluation load it once in a process.

    open_model makes a model of a checkpoint's directory: in this process, or behind a server.
    """

    def __init__(
        self, store: ArtifactStore, *, cache: Path, open_model: Callable[[Path], MeteredModel] = load_model
    ) -> None:
        self._store, self._cache, self._open_model = store, cache, open_model
        self._last: tuple[str, MeteredModel] | None = None

    def load(self, checkpoint: Artifact) -> MeteredModel:
        """The model of a checkpoint manifest. Raises CorruptArtifact or Permanent where it does not load."""
        if self._last is not None and self._last[0] == checkpoint.sha256:
            return self._last[1]
        self._last = None  # frees the memory before the next one takes it
        model = self._open_model(open_checkpoint(self._store, checkpoint, cache=self._cache))
        self._last = (checkpoint.sha256, model)
        return model
