"""What the evaluator asks of the world: loaded checkpoints and a place for outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mendloop.artifacts.store import Artifact
from mendloop.core.records import Outcome
from mendloop.evaluator.domain.scoring import Cost
from mendloop.models.generation import SamplingModel


class MeteredModel(SamplingModel, Protocol):
    """A loaded checkpoint that knows whether its seconds are GPU-seconds."""

    @property
    def uses_gpu(self) -> bool:
        """Whether it runs on a GPU."""


class ModelLoader(Protocol):
    """Loads checkpoints."""

    def load(self, checkpoint: Artifact) -> MeteredModel:
        """The model of a checkpoint. Raises Permanent where it does not load."""


class Projector(Protocol):
    """Embeds any text beside those that it was fitted to."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), rows of length 1, comparable over calls."""

    def to_bytes(self) -> bytes:
        """What another process needs, beside the embedder's name, to embed alike; may be empty."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """Which model it is, with what changes its vectors: a hierarchy is stored under it."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), rows of length 1; only rows of one call are comparable."""

    def fit(self, texts: Sequence[str]) -> Projector:
        """An embedder whose rows are comparable over calls, fitted to these texts where it learns from texts."""


class Scored(NamedTuple):
    """Kept outcomes and what they cost when they were made."""

    outcomes: Artifact
    cost: Cost


class OutcomeStore(Protocol):
    """Outcomes of an evaluation, by the name of their part. One store is open, one is sealed."""

    def find(self, evaluation_id: str, part: str) -> Scored | None:
        """What is kept under the name, or None."""

    def keep(self, evaluation_id: str, part: str, *, outcomes: Sequence[Outcome], cost: Cost) -> Scored:
        """Keep outcomes under a name; when this returns, they outlive the process."""

    def rows(self, scored: Scored) -> list[Outcome]:
        """The outcomes themselves."""
