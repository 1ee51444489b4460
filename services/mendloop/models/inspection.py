"""The inspection port: what is asked of a checkpoint's inside. Numpy arrays and token ids; knows no framework.

Layers count from 0, the embeddings, to layer_count, the last block's output before the final norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mendloop.models.encoding import Encoded, Ids, Tokenizer

States = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one patch takes over from the clean run: the residual stream after a layer, at some positions.

    Positions count from the end (-1 is the last token), so that sequences of other lengths can be paired; all of them
    must exist in both.
    """

    layer: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Predicted:
    """The next token of one run: the most probable id, and the logits of the tokens that were asked for."""

    best: int
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Patched:
    """Next tokens after the clean sequence, after the corrupted one, and after the latter with each cell patched."""

    clean: Predicted
    corrupted: Predicted
    cells: tuple[Predicted, ...]


class Inside(Protocol):
    """A loaded checkpoint that can be looked into. Prompts are already in the model's template."""

    @property
    def layer_count(self) -> int:
        """Number of decoder blocks."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""

    def states(self, sequences: Sequence[Ids], *, layers: Sequence[int], positions: Sequence[int] = (-1,)) -> States:
        """Residual stream [N, layers, positions, H] after the layers, at positions that count from each one's end."""

    def patch(self, clean: Ids, corrupted: Ids, *, cells: Sequence[Cell], tokens: Sequence[int]) -> Patched:
        """Run the corrupted sequence with each cell's states taken from the clean run; logits of the named tokens."""


def recovery(patched: Patched, *, right: int = 0, wrong: int = 1) -> tuple[float, ...]:
    """Share of the logit difference between two asked tokens that each patch restores: 0 as corrupted, 1 as clean.

    (d_patched - d_corrupted) / (d_clean - d_corrupted), with d = logit(right) - logit(wrong): Wang et al. 2022
    (arXiv:2211.00593); of the usual metrics it is the one that also shows harm and does not saturate (Zhang & Nanda
    2024, arXiv:2309.16042). Not clipped. right and wrong are indices of the tokens asked for. Raises ValueError where
    the clean run prefers the right token no more than the corrupted one does.
    """
    low, high = _gap(patched.corrupted, right, wrong), _gap(patched.clean, right, wrong)
    if not high > low:
        raise ValueError(f"the clean run's logit difference {high} is not above the corrupted one's {low}")
    return tuple((_gap(cell, right, wrong) - low) / (high - low) for cell in patched.cells)


def evenly(layer_count: int, *, most: int, first: int = 0) -> tuple[int, ...]:
    """At most so many layers from first to the last one, evenly spread, both ends among them."""
    wanted = min(most, layer_count - first + 1)
    return tuple(sorted({round(float(at)) for at in np.linspace(first, layer_count, wanted)}))


def token_texts(tokenizer: Tokenizer, ids: Iterable[int]) -> tuple[str, ...]:
    """Each token's own text, stripped where that leaves something."""
    texts: list[Any] = [tokenizer.decode([one]) for one in ids]
    return tuple(str(text).strip() or repr(str(text)) for text in texts)


def answer_ids(example: Encoded) -> Ids:
    """The completion's ids without the EOS."""
    return example.completion_ids if example.is_cut else example.completion_ids[:-1]


def _gap(one: Predicted, right: int, wrong: int) -> float:
    return one.logits[right] - one.logits[wrong]
