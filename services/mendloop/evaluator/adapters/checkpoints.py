"""Checkpoints from the store, loaded through transformers. Knows no item and no score."""

from __future__ import annotations

from pathlib import Path

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.evaluator.ports import MeteredModel
from mendloop.models.checkpoint import open_checkpoint
from mendloop.models.transformers_backend import load_model


class StoredCheckpoints:
    """A ModelLoader that keeps the last model: the shards of one evaluation load it once in a process."""

    def __init__(self, store: ArtifactStore, *, cache: Path) -> None:
        self._store, self._cache = store, cache
        self._last: tuple[str, MeteredModel] | None = None

    def load(self, checkpoint: Artifact) -> MeteredModel:
        """The model of a checkpoint manifest. Raises CorruptArtifact or Permanent where it does not load."""
        if self._last is not None and self._last[0] == checkpoint.sha256:
            return self._last[1]
        self._last = None  # frees the memory before the next one takes it
        model = load_model(open_checkpoint(self._store, checkpoint, cache=self._cache))
        self._last = (checkpoint.sha256, model)
        return model
