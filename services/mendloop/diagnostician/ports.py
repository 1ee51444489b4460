"""What handlers need of the outside: loaded checkpoints. The port of a probe stands in domain/probing.py."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mendloop.artifacts.store import Artifact
from mendloop.models.generation import LanguageModel


class Checkpoints(Protocol):
    """Opens checkpoints for probes."""

    def open(self, checkpoint: Artifact) -> LanguageModel:
        """The model; weights may load at its first use, which raises CorruptArtifact where they cannot."""

    def directory(self, checkpoint: Artifact) -> Path:
        """A local directory with the checkpoint's files, for probes that look inside."""

    def uses_gpu(self) -> bool:
        """Whether the model that was last used runs on a GPU, for metering."""
