"""A checkpoint is a directory of files; in the store it is a manifest (JSON) that names each file's artifact."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import InvalidRecipe

MEDIA_TYPE = "application/vnd.mendloop.checkpoint+json"
_FILE = "application/octet-stream"
_WEIGHTS = (".safetensors", ".safetensors.index.json")


def check_directory(directory: Path) -> None:
    """Raises InvalidRecipe where a directory is no loadable checkpoint (config or weights missing)."""
    if not directory.is_dir():
        raise InvalidRecipe(f"the model directory {directory} does not exist")
    if not (directory / "config.json").is_file():
        raise InvalidRecipe(f"the model directory {directory} has no config.json")
    if not any(path.name.endswith(_WEIGHTS) and path.stat().st_size > 0 for path in directory.iterdir()):
        raise InvalidRecipe(f"the model directory {directory} has no weights (*.safetensors)")


def save_checkpoint(store: ArtifactStore, directory: Path) -> Artifact:
    """Store every file of a checkpoint directory; the manifest's hash is the checkpoint's id."""
    check_directory(directory)
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    stored = {str(path.relative_to(directory)): store.put(path.read_bytes(), media_type=_FILE) for path in paths}
    # without the place: the same checkpoint has the same id in every store
    files = {name: {"sha256": file.sha256, "byte_count": file.byte_count} for name, file in stored.items()}
    return store.put(json.dumps({"files": files}, sort_keys=True).encode(), media_type=MEDIA_TYPE)


def open_checkpoint(store: ArtifactStore, artifact: Artifact, *, cache: Path) -> Path:
    """A local directory with the checkpoint's files, each verified by its hash; reused when already there."""
    target = cache / artifact.sha256
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(dir=cache, prefix=".partial-"))
    try:
        for name, fields in json.loads(store.get(artifact))["files"].items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get(Artifact("", fields["sha256"], fields["byte_count"], _FILE)))
        os.replace(partial, target)
    except OSError:
        if not target.is_dir():  # not the race that another process won
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def directory_sha(directory: Path) -> str:
    """Hex SHA-256 over names and bytes of a checkpoint's files: its identity where it lies in no store."""
    check_directory(directory)
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            own = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(directory)}\0{own}\n".encode())
    return digest.hexdigest()
