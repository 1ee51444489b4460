"""A stored hierarchy of embedded items: which way each cut goes, so that any prompt finds its nodes.

Knows vectors and nodes; knows neither embedders nor how a hierarchy is built.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendloop.core.events import stable_hash
from mendloop.core.recipe import SuiteSettings

NAMESPACE = "cluster-hierarchies"
MEDIA_TYPE = "application/vnd.mendloop.hierarchy+npz"


@dataclass(frozen=True, slots=True)
class Cut:
    """A node cut in two: a vector v goes to side 1 where v · line > at, else to side 0. The root's path is empty."""

    path: str
    line: NDArray[np.float64]
    at: float


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Cuts from the root down, the axis value of each node by its path, and the embedder that made the vectors.

    state is what the embedder needs to embed another text the same way; empty where its name says everything.
    """

    cuts: tuple[Cut, ...]
    values: dict[str, str]
    embedder: str
    state: bytes = b""

    def place(self, vectors: NDArray[np.float32]) -> list[tuple[str, ...]]:
        """The values of each row's nodes, from wide to narrow; the items of the hierarchy get their own."""
        cuts = {cut.path: cut for cut in self.cuts}
        placed: list[tuple[str, ...]] = []
        for row in vectors.astype(np.float64):
            path, found = "", []
            while path in cuts:
                path += "1" if float(row @ cuts[path].line) > cuts[path].at else "0"
                found.append(self.values[path])
            placed.append(tuple(found))
        return placed

    def to_bytes(self) -> bytes:
        """The hierarchy as one npz file."""
        width = max((len(cut.line) for cut in self.cuts), default=0)
        facts = {"paths": [cut.path for cut in self.cuts], "values": self.values, "embedder": self.embedder}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            lines=np.array([cut.line for cut in self.cuts], dtype=np.float64).reshape(len(self.cuts), width),
            at=np.array([cut.at for cut in self.cuts], dtype=np.float64),
            facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            state=np.frombuffer(self.state, dtype=np.uint8),
        )
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Hierarchy:
        """The hierarchy of such a file."""
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            facts = json.loads(parts["facts"].tobytes())
            rows = zip(facts["paths"], parts["lines"], parts["at"], strict=True)
            cuts = tuple(Cut(path, line, float(at)) for path, line, at in rows)
            return Hierarchy(cuts, facts["values"], facts["embedder"], parts["state"].tobytes())


def hierarchy_name(items_sha: str, suite: SuiteSettings) -> str:
    """Under which name the hierarchy of a suite's items is kept: what decides how small a node may be is in it."""
    return stable_hash(items_sha, str(suite.min_items), str(suite.search), str(suite.confirm))[:32]
