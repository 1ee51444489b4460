"""What attribution asks of models and of search engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mendloop.attribution.domain.influence import Block, Rows


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt as the model gets it, with the template applied, and what should follow."""

    prompt: str
    completion: str

    @property
    def whole(self) -> str:
        """Both, for retrieval."""
        return f"{self.prompt} {self.completion}"


class GradientSource(Protocol):
    """Rows of projected gradients."""

    @property
    def identity(self) -> str:
        """Hex hash of the checkpoint and the settings: sources with equal identities give equal rows."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The modules of a row, in order."""

    def rows(self, texts: Sequence[Text]) -> Rows:
        """Gradients of the loss of each text's completion, summed over its tokens: (texts, numbers of all blocks)."""


class Retriever(Protocol):
    """Likeness of texts, cheap enough for a whole corpus."""

    @property
    def name(self) -> str:
        """Name as it stands in the evidence."""

    def fit(self, texts: Sequence[str]) -> None:
        """Index the corpus."""

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(queries, texts); higher is more alike."""
