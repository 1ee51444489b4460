"""What runs a pass: a chain of functions over record batches, on one machine or on many. Knows no pass.

A function is picklable, keeps nothing between calls and may be called twice on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

Function = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Together:
    """A function that gets, in one batch, all rows with the same value in an integer column; in any order."""

    key: str
    function: Function


@dataclass(frozen=True, slots=True)
class Chain:
    """A function over each part, then others over its rows regrouped."""

    each: Function
    together: tuple[Together, ...] = ()


class Engine(Protocol):
    """Runs chains."""

    def run(self, parts: Sequence[Path], chain: Chain) -> Iterator[pa.RecordBatch]:
        """What the last function gives, in any order."""
