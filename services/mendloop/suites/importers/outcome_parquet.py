"""Our own Outcome Parquet as a file, outside a deployment's store. Knows the file; the schema is artifacts.tables'."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import MEDIA_TYPE, get_rows, put_rows
from mendloop.core.errors import CorruptArtifact, InvalidResults
from mendloop.core.records import Outcome
from mendloop.suites.importers.collecting import Collector, OnBytes

FORMAT = "parquet"
MAGIC = b"PAR1"


def read(path: Path, into: Collector, *, on_bytes: OnBytes) -> None:
    """Read one file. Raises InvalidResults where it holds no Outcome rows."""
    into.start(FORMAT)
    data = path.read_bytes()
    with TemporaryDirectory(prefix="mendloop-outcomes-") as folder:
        store = ArtifactStore(Path(folder))
        try:
            rows = get_rows(store, store.put(data, media_type=MEDIA_TYPE), kind=Outcome)
        except CorruptArtifact as error:
            raise InvalidResults(f"{path}: {error}; write it with `mend import-eval`") from error
    on_bytes(len(data))
    for number, row in enumerate(rows, start=1):
        into.read(f"{path.name}, row {number}", partial(_itself, row))


def _itself(row: Outcome) -> Outcome:
    return row


def write(path: Path, outcomes: Sequence[Outcome]) -> int:
    """Write outcomes as one Parquet file, moved into place when it is whole. Returns its bytes."""
    with TemporaryDirectory(prefix="mendloop-outcomes-") as folder:
        store = ArtifactStore(Path(folder))
        data = store.get(put_rows(store, outcomes, kind=Outcome))
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as half:
        try:
            half.write(data)
            half.flush()
            os.fsync(half.fileno())
            os.replace(half.name, path)
        except OSError:
            os.unlink(half.name)
            raise
    return len(data)
