"""The embedders of `mendloop.models` for retrieval. Loaded when asked for: torch more than triples the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.axes.placing import Embeds


@dataclass(frozen=True, slots=True)
class ModelEmbedding:
    """Embedders by the service's setting: auto, tfidf or a directory."""

    model: str

    def fitted(self, texts: Sequence[str]) -> tuple[Embeds, str, bytes]:
        """A sentence model, or latent terms of these texts."""
        from mendloop.models.embeddings import embedder_of

        chosen = embedder_of(self.model)
        fitted = chosen.fit(texts)
        return fitted, chosen.name, fitted.to_bytes()

    def restored(self, name: str, state: bytes) -> Embeds:
        """The embedder of a name and state. Raises Permanent where this machine has another model."""
        from mendloop.models.embeddings import restored

        return restored(name, state, model=self.model)
