"""Owns the way from labelled examples to tensors. Shapes: B examples, L tokens of the longest one in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from mendloop.trainer.domain.labels import IGNORED, LabelledExample


class OrderedExamples(Dataset[LabelledExample]):
    """The examples in the order in which a training sees them: position step * batch_size + i is in that step."""

    def __init__(self, examples: Sequence[LabelledExample], *, order: Sequence[int]) -> None:
        self._examples, self._order = examples, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> LabelledExample:
        return self._examples[self._order[position]]


class RightPadding:
    """Pads a batch on the right, to its longest example. Padding has label IGNORED whatever the padding id is.

    No attention mask is made: under causal attention no real token sees what stands right of it, and attention
    without a mask takes the faster kernel.
    """

    def __init__(self, *, padding_id: int) -> None:
        self._padding_id = padding_id

    def __call__(self, examples: Sequence[LabelledExample]) -> dict[str, torch.Tensor]:
        length = max(len(example.input_ids) for example in examples)
        ids_BL = [[*e.input_ids, *[self._padding_id] * (length - len(e.input_ids))] for e in examples]
        labels_BL = [[*e.labels, *[IGNORED] * (length - len(e.labels))] for e in examples]
        return {"input_ids": torch.tensor(ids_BL), "labels": torch.tensor(labels_BL)}
