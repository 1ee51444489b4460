"""Content-addressed artifacts and small named documents over fsspec. Knows bytes and hashes; knows no event.

Objects lie under objects/<first two hex digits>/<sha256>; documents under docs/<namespace>/<name>.
A write goes to a temporary name and is moved into place, so a full disk or kill -9 leaves no half artifact.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mendloop.core.errors import CorruptArtifact, Retryable


@dataclass(frozen=True, slots=True)
class Artifact:
    """Where bytes are and what they must be: the Python twin of mendloop.v1.ArtifactRef."""

    uri: str
    sha256: str
    byte_count: int
    media_type: str


class ArtifactStore:
    """A store under one fsspec URI (file:// by default, s3:// and others where their package is installed)."""

    def __init__(self, base_uri: str | Path) -> None:
        uri = base_uri.resolve().as_uri() if isinstance(base_uri, Path) else base_uri
        self._fs, self._root = fsspec.core.url_to_fs(uri)
        self._scheme = uri.split("://")[0] if "://" in uri else "file"

    def put(self, data: bytes, *, media_type: str) -> Artifact:
        """Store bytes under their hash; storing the same bytes again writes nothing. Retryable on a full disk."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._object_path(digest)
        if not (self._fs.exists(path) and self._fs.size(path) == len(data)):
            self._write(path, data)
        return Artifact(f"{self._scheme}://{path}", digest, len(data), media_type)

    def get(self, artifact: Artifact) -> bytes:
        """The bytes, checked against size and hash. Raises CorruptArtifact where they do not match."""
        path = self._object_path(artifact.sha256)
        try:
            data: bytes = self._fs.cat_file(path)
        except FileNotFoundError:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is missing at {path}") from None
        if len(data) != artifact.byte_count:
            raise CorruptArtifact(
                f"artifact {artifact.sha256[:12]} has {len(data)} bytes, expected {artifact.byte_count}: {path}"
            )
        actual = hashlib.sha256(data).hexdigest()
        if actual != artifact.sha256:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} has the hash {actual[:12]}: {path}")
        return data

    def find(self, sha256: str, *, media_type: str = "application/octet-stream") -> Artifact | None:
        """The artifact with this hash, or None."""
        path = self._object_path(sha256)
        if not self._fs.exists(path):
            return None
        return Artifact(f"{self._scheme}://{path}", sha256, int(self._fs.size(path)), media_type)

    def put_doc(self, namespace: str, name: str, data: bytes) -> None:
        """Write a small named document, replacing what is there."""
        self._write(self._doc_path(namespace, name), data)

    def get_doc(self, namespace: str, name: str) -> bytes | None:
        """A named document, or None."""
        try:
            data: bytes = self._fs.cat_file(self._doc_path(namespace, name))
        except FileNotFoundError:
            return None
        return data

    def doc_names(self, namespace: str) -> list[str]:
        """Names of the documents in a namespace, sorted."""
        folder = f"{self._root}/docs/{namespace}"
        self._fs.invalidate_cache(folder)
        if not self._fs.exists(folder):
            return []
        names = (entry.rsplit("/", 1)[-1] for entry in self._fs.ls(folder, detail=False))
        return sorted(unquote(name) for name in names if not name.startswith(".tmp-"))

    def _object_path(self, sha256: str) -> str:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise CorruptArtifact(f"{sha256!r} is not a lower-case hex SHA-256")
        return f"{self._root}/objects/{sha256[:2]}/{sha256}"

    def _doc_path(self, namespace: str, name: str) -> str:
        return f"{self._root}/docs/{namespace}/{quote(name, safe='')}"

    def _write(self, path: str, data: bytes) -> None:
        folder = path.rsplit("/", 1)[0]
        self._fs.makedirs(folder, exist_ok=True)
        if not isinstance(self._fs, LocalFileSystem):
            self._fs.pipe_file(path, data)  # an object store's put is atomic
            return
        temporary = f"{folder}/.tmp-{secrets.token_hex(8)}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            Path(temporary).unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Retryable(f"no space to write {len(data)} bytes to {path}: free disk space") from error
            raise
