"""Owns the way from labelled rows to tensors.

Shapes: B rows, P pairs of them, L tokens of the longest one in the batch. Padding has label IGNORED whatever the
padding id is. No attention mask is made: under causal attention no real token sees what stands right of it, and
attention without a mask takes the faster kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch.utils.data import Dataset

from mendloop.trainer.domain.labels import IGNORED, LabelledExample, LabelledPair
from mendloop.trainer.domain.packing import packed

Row = LabelledExample | LabelledPair


class Collation(Protocol):
    """Makes the tensors of a batch."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """What the model and the loss take."""


class OrderedRows(Dataset[Row]):
    """The rows in the order in which a training sees them: position step * batch_size + i is in that step."""

    def __init__(self, rows: Sequence[Row], *, order: Sequence[int]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> Row:
        return self._rows[self._order[position]]


class RightPadding:
    """Pads examples on the right, to the longest one."""

    def __init__(self, *, padding_id: int) -> None:
        self._padding_id = padding_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        examples = [row for row in rows if isinstance(row, LabelledExample)]
        length = max(len(example.input_ids) for example in examples)
        ids_BL = [[*e.input_ids, *[self._padding_id] * (length - len(e.input_ids))] for e in examples]
        labels_BL = [[*e.labels, *[IGNORED] * (length - len(e.labels))] for e in examples]
        return {"input_ids": torch.tensor(ids_BL), "labels": torch.tensor(labels_BL)}


class Packing:
    """Several examples in a row of at most max_tokens. Positions begin anew with each, so that none sees another.

    The first token of an example has no label: nothing stands before it that could predict it.
    """

    def __init__(self, *, padding_id: int, max_tokens: int) -> None:
        self._padding_id, self._max_tokens = padding_id, max_tokens

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        examples = [row for row in rows if isinstance(row, LabelledExample)]
        shared = packed([e.token_count for e in examples], limit=self._max_tokens)
        together = [[examples[at] for at in row] for row in shared]
        length = max(sum(e.token_count for e in row) for row in together)
        ids_BL, labels_BL, positions_BL = [], [], []
        for row in together:
            free = length - sum(e.token_count for e in row)
            ids_BL.append([*(token for e in row for token in e.input_ids), *[self._padding_id] * free])
            labels_BL.append([*(label for e in row for label in (IGNORED, *e.labels[1:])), *[IGNORED] * free])
            positions_BL.append([*(at for e in row for at in range(e.token_count)), *range(free)])
        return {
            "input_ids": torch.tensor(ids_BL),
            "labels": torch.tensor(labels_BL),
            "position_ids": torch.tensor(positions_BL),
        }


class PairPadding:
    """Preferences and replayed examples in one batch: P chosen, then P rejected, then the examples.

    reference_gaps has P values: their number says how many rows are pairs.
    """

    def __init__(self, *, padding_id: int) -> None:
        self._padding = RightPadding(padding_id=padding_id)

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        pairs = [row for row in rows if isinstance(row, LabelledPair)]
        examples = [row for row in rows if isinstance(row, LabelledExample)]
        batch = self._padding([*(p.chosen for p in pairs), *(p.rejected for p in pairs), *examples])
        gaps_P = torch.tensor([pair.reference_gap for pair in pairs], dtype=torch.float32)
        return {**batch, "reference_gaps": gaps_P}
