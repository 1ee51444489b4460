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
        uri = f"file://{base_uri.resolve()}" if isinstance(base_uri, Path) else base_uri
        self._fs, self._root = fsspec.core.url_to_fs(uri)
        self._scheme = uri.split("://")[0] if "://" in uri else "file"

    @property
    def uri(self) -> str:
        """Where the store lies: another process that opens this URI has the same store."""
        return f"{self._scheme}://{self._root}"

    def put(self, data: bytes, *, media_type: str) -> Artifact:
        """Store bytes under their hash; storing the same bytes again writes nothing. Retryable on a full disk."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._object_path(digest)
        if not (self._fs.exists(path) and self._fs.size(path) == len(data)):
            self._write(path, data)
        return Artifact(f"{self._scheme}://{path}", digest, len(data), media_type)

    def get(self, artifact: Artifact) -> bytes:
        """The bytes, checked against size and hash.

        Raises CorruptArtifact where they do not match, Retryable where the store cannot be read now.
        """
        path = self._object_path(artifact.sha256)
        try:
            data: bytes = self._fs.cat_file(path)
        except FileNotFoundError:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is missing at {path}") from None
        except OSError as error:
            raise Retryable(f"artifact {artifact.sha256[:12]} cannot be read at {path}: {error}") from error
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
        """Write a small named document, replacing what is there. Raises ValueError for an empty name."""
        self._write(self._doc_path(namespace, name), data)

    def get_doc(self, namespace: str, name: str) -> bytes | None:
        """A named document, or None."""
        try:
            data: bytes = self._fs.cat_file(self._doc_path(namespace, name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Retryable(f"the document {namespace}/{name} cannot be read: {error}") from error
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
        if not name:
            raise ValueError(f"a document of {namespace} needs a name")
        quoted = quote(name, safe="")
        # a name that starts with a dot would be a folder (..) or look like a write under way (.tmp-)
        return f"{self._root}/docs/{namespace}/{'%2E' + quoted[1:] if quoted.startswith('.') else quoted}"

    def _write(self, path: str, data: bytes) -> None:
        folder = path.rsplit("/", 1)[0]
        try:
            self._fs.makedirs(folder, exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                _replace(path, data, folder=folder)
            else:
                self._fs.pipe_file(path, data)  # an object store's put is atomic
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "no space left: free disk space" if full else str(error)
            raise Retryable(f"cannot write {len(data)} bytes to {path}: {reason}") from error


def _replace(path: str, data: bytes, *, folder: str) -> None:
    """Put the bytes in place at once, on the disk before the name shows them."""
    temporary = f"{folder}/.tmp-{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Without this a power cut may take back the new name, after an event has already told of it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
