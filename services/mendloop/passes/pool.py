"""A pool of processes on one machine. Regrouped rows go through files, so that memory holds a group a worker.

Knows functions and files; knows no pass.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import cast

import numpy as np
import pyarrow as pa

from mendloop.passes.corpus import one_batch, read_part
from mendloop.passes.engine import Chain, Function

AHEAD = 2
"""Tasks under way for each worker: their results are all that waits in memory."""
MOST_GROUPS = 900
"""Files that one regrouping may hold open."""


class PoolEngine:
    """Runs chains in `workers` processes; a context manager. spill is where regrouped rows lie meanwhile."""

    def __init__(self, *, workers: int, spill: Path | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; a pool needs at least 1")
        self._workers, self._spill = workers, spill
        # not fork: a forked child would inherit the locks of whatever threads the caller runs
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def __enter__(self) -> PoolEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, parts: Sequence[Path], chain: Chain) -> Iterator[pa.RecordBatch]:
        """What the last function gives, in the order of the parts or of the groups."""
        with TemporaryDirectory(prefix="mendloop-pass-", dir=self._spill) as folder:
            batches = self._apply(chain.each, parts, read=read_part, work=Path(folder) / "each")
            for number, step in enumerate(chain.together):
                work = Path(folder) / str(number)
                files = scatter(batches, key=step.key, folder=work / "groups")
                batches = self._apply(step.function, files, read=read_group, work=work)
            yield from batches

    def _apply(
        self, function: Function, files: Sequence[Path], *, read: Callable[[Path], pa.RecordBatch], work: Path
    ) -> Iterator[pa.RecordBatch]:
        work.mkdir(parents=True, exist_ok=True)
        stored = work / "function.pickle"
        stored.write_bytes(pickle.dumps((function, read)))
        waiting: deque[Future[pa.RecordBatch]] = deque()
        for file in files:
            waiting.append(self._pool.submit(_work, str(stored), str(file)))
            if len(waiting) >= AHEAD * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def scatter(batches: Iterable[pa.RecordBatch], *, key: str, folder: Path) -> list[Path]:
    """Write the rows of each value of a key to a file of its own; the files, by key."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    with ExitStack() as open_files:
        for batch in batches:
            for value, rows in groups_of(batch, key=key):
                if value not in writers:
                    if len(writers) == MOST_GROUPS:
                        raise ValueError(
                            f"more than {MOST_GROUPS} groups by {key!r}: use Ray for a corpus of this size"
                        )
                    sink = open_files.enter_context(pa.OSFile(str(folder / f"{value:09d}.arrows"), "wb"))
                    writers[value] = open_files.enter_context(pa.ipc.new_stream(sink, batch.schema))
                writers[value].write_batch(rows)
    return [folder / f"{value:09d}.arrows" for value in sorted(writers)]


def groups_of(batch: pa.RecordBatch, *, key: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each value of an integer column, by value."""
    if not batch.num_rows:
        return
    values = batch.column(key).to_numpy(zero_copy_only=False)
    order = np.argsort(values, kind="stable")
    arranged = batch.take(pa.array(order))
    found, starts = np.unique(values[order], return_index=True)
    for value, start, end in zip(found, starts, [*starts[1:], len(order)], strict=True):
        yield int(value), arranged.slice(int(start), int(end - start))


def read_group(path: Path) -> pa.RecordBatch:
    """A file of scattered rows as one batch."""
    with pa.OSFile(str(path), "rb") as source:
        return one_batch(pa.ipc.open_stream(source).read_all())


def _work(stored: str, file: str) -> pa.RecordBatch:
    function, read = _loaded(stored)
    return function(read(Path(file)))


@lru_cache(maxsize=1)
def _loaded(stored: str) -> tuple[Function, Callable[[Path], pa.RecordBatch]]:
    return cast(tuple[Function, Callable[[Path], pa.RecordBatch]], pickle.loads(Path(stored).read_bytes()))
