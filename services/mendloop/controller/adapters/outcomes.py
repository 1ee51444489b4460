"""Outcome tables as right or wrong by item. Loads pyarrow with the first table: an idle controller stays small."""

from __future__ import annotations

import io
from collections.abc import Sequence

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.controller.domain.pairs import Result
from mendloop.core.errors import CorruptArtifact

_COLUMNS = ["item_id", "repeat_index", "score", "axes"]


class StoredOutcomes:
    """Outcome tables in the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def results(self, artifact: Artifact) -> Sequence[Result]:
        """Right or wrong by item: its first repeat, for repeats of an item are no independent pairs."""
        import pyarrow as pa  # 60 MB that an idle controller does not need
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(io.BytesIO(self._store.get(artifact)))
            table = file.read(columns=_COLUMNS, use_threads=False)
        except (pa.ArrowInvalid, KeyError) as error:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is no outcome table: {error}") from error
        if set(table.column_names) != set(_COLUMNS):
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} holds {table.column_names}, not {_COLUMNS}")
        first: dict[str, tuple[int, Result]] = {}
        for row in table.to_pylist():
            axes = {axis: tuple(values) for axis, values in row["axes"]}
            found = first.get(row["item_id"])
            if found is None or row["repeat_index"] < found[0]:
                result = Result(row["item_id"], axes, row["score"] >= 1.0)
                first[row["item_id"]] = (row["repeat_index"], result)
        return [result for _, result in first.values()]
