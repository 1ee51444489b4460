"""Owns the choices that decide what a stored row means; two indexes with equal settings are comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Storage = Literal["float16", "float32"]
STORAGES: tuple[Storage, ...] = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How an example becomes a row."""

    layers: tuple[str, ...] = ("*",)
    """Patterns (as for file names) of the linear modules whose weights count, e.g. "*.mlp.*"."""
    k_in: int = 16
    """Dimensions kept of a module's inputs; a side that is no wider is kept whole."""
    k_out: int = 16
    """Dimensions kept of its output gradients: a module has k_in * k_out numbers in a row."""
    uses_adam: bool = False
    """Whether gradients are scaled by the optimizer's second moments, so that they are what a step of Adam sees."""
    eos_in_loss: bool = True
    """Whether the training's loss had the EOS."""
    storage: Storage = "float16"
    """Type of the stored numbers. Rows have length 1 and their norm beside them, so that nothing overflows."""
    seed: int = 0
    """Of the random directions."""
    shard_rows: int = 512

    def __post_init__(self) -> None:
        for name in ("k_in", "k_out", "shard_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.storage not in STORAGES:
            raise ValueError(f"storage is {self.storage!r}; give one of {', '.join(STORAGES)}")
        if not self.layers:
            raise ValueError("layers is empty; name at least one pattern, e.g. '*.mlp.*'")

    def document(self) -> dict[str, object]:
        """Plain JSON values of what decides a row; how many rows share a file does not."""
        fields = asdict(self)
        del fields["shard_rows"]
        return {**fields, "layers": list(self.layers)}
