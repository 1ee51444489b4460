"""The stored gradients of a corpus under one checkpoint: shards that are mapped into memory, and their manifest.

Every example has one row, found by its hash, so that a corpus may grow, shrink or change its order: only rows that no
shard holds are computed. A shard is complete or absent; a killed build goes on after the last complete one.
Knows neither models nor influence.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendloop.attribution.domain.influence import Block, Rows
from mendloop.attribution.domain.settings import Storage
from mendloop.attribution.ports import GradientSource, Text
from mendloop.core.errors import CorruptArtifact, Permanent, Retryable

MANIFEST = "manifest.json"
ID_BYTES = 16
PIECE_ROWS = 64
KEYS = np.dtype([("id", np.uint8, (ID_BYTES,)), ("norm", np.float32)])


def text_id(text: Text) -> str:
    """Hex hash of an example: which row is its own."""
    return hashlib.sha256(f"{text.prompt}\0{text.completion}".encode()).hexdigest()[: 2 * ID_BYTES]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of rows with length 1, and one of their ids and norms; each with its hash."""

    name: str
    row_count: int
    rows_sha256: str
    ids_sha256: str

    @property
    def rows_file(self) -> str:
        """An array in numpy's format."""
        return f"{self.name}.rows.npy"

    @property
    def ids_file(self) -> str:
        """Ids and norms."""
        return f"{self.name}.ids.npy"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did."""

    computed_count: int
    reused_count: int
    corrupted: tuple[str, ...]
    """Shards whose bytes had changed: their rows were computed again."""


def build_index(
    source: GradientSource,
    texts: Sequence[Text],
    *,
    root: Path,
    storage: Storage = "float16",
    shard_rows: int = 512,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[GradientIndex, Built]:
    """Rows of every text under the source, in a folder of root that is named after the source's identity.

    on_progress gets (examples done, examples to do) after each shard; it may raise to stop, complete shards stay.
    Raises Retryable on a full disk.
    """
    folder = root / source.identity
    with _room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        index, corrupted = _sound(folder, source)
        missing = list({key: text for text in texts if (key := text_id(text)) not in index.places}.items())
        for start in range(0, len(missing), shard_rows):
            part = missing[start : start + shard_rows]
            rows = source.rows([text for _, text in part])
            shard = _write_shard(folder, [key for key, _ in part], rows, storage=storage)
            index = GradientIndex(folder, source.identity, source.blocks, (*index.shards, shard))
            _write_manifest(index)
            on_progress(start + len(part), len(missing))
    wanted = {text_id(text) for text in texts}
    return index, Built(len(missing), len(wanted) - len(missing), corrupted)


class GradientIndex:
    """Rows by id. Shards are verified by their hash when they are first read."""

    def __init__(self, folder: Path, identity: str, blocks: tuple[Block, ...], shards: tuple[Shard, ...]) -> None:
        self.folder, self.identity, self.blocks, self.shards = folder, identity, blocks, shards
        self._opened: dict[str, tuple[NDArray[Any], NDArray[np.float32]]] = {}

    @cached_property
    def places(self) -> dict[str, tuple[Shard, int]]:
        """Shard and row of each id."""
        return {key: (shard, at) for shard in self.shards for at, key in enumerate(_hex(_keys(self.folder, shard)))}

    @property
    def byte_count(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def rows(self, ids: Sequence[str]) -> Rows:
        """Gradients in the order of the ids, (ids, numbers of all blocks). Raises KeyError for an unknown id."""
        out = np.empty((len(ids), sum(block.size for block in self.blocks)), np.float32)
        for at, unit, norms in self.parts(ids):
            out[at] = unit * norms[:, None]
        return out

    def parts(self, ids: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Rows, NDArray[np.float32]]]:
        """The same shard by shard: which of the ids, their gradients with length 1, and the lengths that these had.

        A few rows at a time: a query took 12.3 ms of CPU so, and 15.4 with whole shards of 512 rows of 3,840 numbers.
        """
        grouped: dict[Shard, list[tuple[int, int]]] = {}
        for at, key in enumerate(ids):
            shard, row = self.places[key]
            grouped.setdefault(shard, []).append((row, at))
        for shard, pairs in grouped.items():
            rows, norms = self._open(shard)
            taken, at = np.array(sorted(pairs), np.int64).T
            for start in range(0, len(taken), PIECE_ROWS):
                piece = slice(start, start + PIECE_ROWS)
                yield at[piece], rows[taken[piece]].astype(np.float32), norms[taken[piece]]

    def _open(self, shard: Shard) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if shard.name not in self._opened:
            _check(self.folder / shard.rows_file, shard.rows_sha256)
            mapped = np.load(self.folder / shard.rows_file, mmap_mode="r")
            self._opened[shard.name] = mapped, _keys(self.folder, shard)["norm"]
        return self._opened[shard.name]


def open_index(folder: Path) -> GradientIndex:
    """The index of a folder. Raises Permanent where there is none, CorruptArtifact where it cannot be read."""
    path = folder / MANIFEST
    if not path.is_file():
        raise Permanent(f"{folder} holds no {MANIFEST}: build an index there first")
    try:
        document = json.loads(path.read_text())
        blocks = tuple(Block(**fields) for fields in document["blocks"])
        shards = tuple(Shard(**fields) for fields in document["shards"])
        return GradientIndex(folder, document["identity"], blocks, shards)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifact(f"{path} is no manifest of an index: {error}; delete it and build again") from error


def _check(path: Path, expected: str) -> None:
    """Raises CorruptArtifact where a file is missing or its bytes are not those that were written."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CorruptArtifact(f"{path} is missing; build the index again: only its rows are computed") from None
    if found != expected:
        raise CorruptArtifact(
            f"{path} has the SHA-256 {found}, not {expected}; build the index again: only its rows are computed"
        )


def _sound(folder: Path, source: GradientSource) -> tuple[GradientIndex, tuple[str, ...]]:
    """What of an earlier build is whole, and the names of shards that are not."""
    if not (folder / MANIFEST).is_file():
        return GradientIndex(folder, source.identity, source.blocks, ()), ()
    found = open_index(folder)
    sound, corrupted = [], []
    for shard in found.shards:
        try:
            _check(folder / shard.rows_file, shard.rows_sha256)
            _check(folder / shard.ids_file, shard.ids_sha256)
            sound.append(shard)
        except CorruptArtifact:
            corrupted.append(shard.name)
    return GradientIndex(folder, source.identity, source.blocks, tuple(sound)), tuple(corrupted)


def _keys(folder: Path, shard: Shard) -> NDArray[Any]:
    """Ids and norms of a shard's rows; small beside the rows, so they are read whole."""
    _check(folder / shard.ids_file, shard.ids_sha256)
    keys: NDArray[Any] = np.load(folder / shard.ids_file)
    return keys


def _hex(keys: NDArray[Any]) -> Iterable[str]:
    return (bytes(row).hex() for row in keys["id"])


def _write_shard(folder: Path, ids: Sequence[str], rows: Rows, *, storage: Storage) -> Shard:
    norms = np.linalg.norm(rows, axis=1).astype(np.float32)
    unit = (rows / np.where(norms > 0, norms, 1)[:, None]).astype(storage)
    keys = np.zeros(len(ids), KEYS)
    keys["id"], keys["norm"] = [list(bytes.fromhex(key)) for key in ids], norms
    name = hashlib.sha256("".join(ids).encode()).hexdigest()[:24]
    files = Shard(name, len(ids), "", "")
    rows_sha = _write(folder / files.rows_file, lambda file: np.save(file, unit))
    ids_sha = _write(folder / files.ids_file, lambda file: np.save(file, keys))
    return Shard(name, len(ids), rows_sha, ids_sha)


def _write_manifest(index: GradientIndex) -> None:
    document = {
        "format": 1,
        "identity": index.identity,
        "blocks": [{"name": block.name, "size": block.size} for block in index.blocks],
        "shards": [{name: getattr(shard, name) for name in Shard.__slots__} for shard in index.shards],
    }
    text = json.dumps(document, indent=1).encode()
    _write(index.folder / MANIFEST, lambda file: file.write(text))


def _write(path: Path, write: Callable[[io.BytesIO], object]) -> str:
    """Write beside and rename, so that a file is whole or absent; returns the hash of its bytes."""
    content = io.BytesIO()
    write(content)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.getbuffer())  # no fsync: what a power cut tears, the hash finds
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return hashlib.sha256(content.getbuffer()).hexdigest()


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Says where the disk is full; what was written whole stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Retryable(
            f"the disk of {folder} is full: free space or keep less (k_in, k_out, layers, storage float16), "
            "then build again; complete shards are kept"
        ) from error
