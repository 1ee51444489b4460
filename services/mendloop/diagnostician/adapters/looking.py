"""Opens a case's checkpoint for looking inside, once for all probes that do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mendloop.diagnostician.domain.case import Case
from mendloop.models.inside import open_inside
from mendloop.models.inspection import Inside

Look = Callable[[Case], Inside | None]
"""The inside of a case's checkpoint; None where its weights are not at hand."""


class Looking:
    """A Look that keeps the checkpoint it opened last."""

    def __init__(self, open_directory: Callable[[Path], Inside] = open_inside) -> None:
        self._open = open_directory
        self._held: tuple[Path, Inside] | None = None

    def __call__(self, case: Case) -> Inside | None:
        """Raises Permanent where the weights do not load, or where the model cannot be looked into."""
        if case.weights is None:
            return None
        directory = case.weights()
        if self._held is None or self._held[0] != directory:
            self._held = None  # the old weights go before the new ones come
            self._held = (directory, self._open(directory))
        return self._held[1]
