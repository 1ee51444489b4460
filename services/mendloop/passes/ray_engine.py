"""Ray Data runs the same chains on a cluster. The corpus lies in a folder that every node can read.

Ray is started by whoever calls; extra: mendloop[ray].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa

from mendloop.core.errors import Permanent
from mendloop.passes.corpus import one_batch, read_part
from mendloop.passes.engine import Chain, Function

try:
    import ray.data
except ImportError as error:
    raise Permanent("passes on Ray need ray[data]: uv pip install 'mendloop[ray]'") from error

OfTable = Callable[[pa.Table], pa.Table]


class RayEngine:
    """Runs chains on the Ray that the process is connected to."""

    def run(self, parts: Sequence[Path], chain: Chain) -> Iterator[pa.RecordBatch]:
        """What the last function gives, in any order."""
        if not parts:
            return
        paths = [{"path": str(path)} for path in parts]
        data: ray.data.Dataset = ray.data.from_items(paths, override_num_blocks=len(parts))
        data = data.map_batches(_of_part(chain.each), batch_size=1, batch_format="pyarrow", zero_copy_batch=True)
        for step in chain.together:
            # as many partitions as parts: Ray's own default of 200 starts as many tasks for ten groups
            groups = data.groupby(step.key, num_partitions=len(parts))
            data = groups.map_groups(_of_group(step.function), batch_format="pyarrow")
        for table in cast(Iterator[pa.Table], data.iter_batches(batch_format="pyarrow", batch_size=None)):
            yield from table.to_batches()


# Functions in functions: Ray asks what it maps over groups for its name, which no object with __call__ has.


def _of_part(function: Function) -> OfTable:
    def read_and_map(paths: pa.Table) -> pa.Table:
        [path] = paths.column("path").to_pylist()
        return pa.Table.from_batches([function(read_part(Path(path)))])

    return read_and_map


def _of_group(function: Function) -> OfTable:
    def map_group(rows: pa.Table) -> pa.Table:
        return pa.Table.from_batches([function(one_batch(rows))])

    return map_group
