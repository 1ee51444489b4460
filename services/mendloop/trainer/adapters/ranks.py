"""What processes that train together have to agree on. With one process everything here does nothing.

Knows torch.distributed; knows no training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def process_count() -> int:
    """Processes that train together."""
    return int(dist.get_world_size()) if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that reports and writes."""
    return process_count() == 1 or dist.get_rank() == 0


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, in every process. All have to call it; the others do not call `make`."""
    if process_count() == 1:
        return make()
    box: list[Any] = [make() if is_first() else None]
    dist.broadcast_object_list(box, src=0)
    value: T = box[0]
    return value


def wait_for_all() -> None:
    """Go on when every process is here."""
    if process_count() > 1:
        dist.barrier()


def mean_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes."""
    count = process_count()
    if count == 1:
        return values
    dist.all_reduce(values)
    return values / count
