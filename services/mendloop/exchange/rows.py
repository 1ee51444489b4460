"""A row of a batch, with a name that survives a labelling tool."""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.core.records import Example, Preference


@dataclass(frozen=True, slots=True)
class Row:
    """An example with its name: the batch's short hash and its place from 0, so that rows of two batches differ."""

    row_id: str
    example: Example


@dataclass(frozen=True, slots=True)
class PairRow:
    """A preference with its name."""

    row_id: str
    pair: Preference
