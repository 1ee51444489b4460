"""Ray Data runs the same chains on a cluster. The corpus lies in a folder that every node can read.

Ray is started by whoever calls; extra: mendloop[ray].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


class RayEngine:
    """Runs chains on the Ray that the process is connected to."""

    def run(self, parts: Sequence[Path], chain: Chain) -> Iterator[pa.RecordBatch]:
        """What the last function gives, in any order."""
        if not parts:
            return
        data: ray.data.Dataset = ray.data.from_items(
            [{"path": str(path)} for path in parts], override_num_blocks=len(parts)
        )
        data = data.map_batches(_OfPart(chain.each), batch_size=1, batch_format="pyarrow", zero_copy_batch=True)
        for step in chain.together:
            data = data.groupby(step.key).map_groups(_OfGroup(step.function), batch_format="pyarrow")
        for table in cast(Iterator[pa.Table], data.iter_batches(batch_format="pyarrow", batch_size=None)):
            yield from table.to_batches()


@dataclass(frozen=True, slots=True)
class _OfPart:
    function: Function

    def __call__(self, paths: pa.Table) -> pa.Table:
        [path] = paths.column("path").to_pylist()
        return pa.Table.from_batches([self.function(read_part(Path(path)))])


@dataclass(frozen=True, slots=True)
class _OfGroup:
    function: Function

    def __call__(self, rows: pa.Table) -> pa.Table:
        return pa.Table.from_batches([self.function(one_batch(rows))])
