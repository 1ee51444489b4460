"""A checkpoint is the same wherever it is stored."""

from __future__ import annotations

from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.models.checkpoint import open_checkpoint, save_checkpoint


def _directory(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_same_files_have_the_same_id_in_every_store(tmp_path: Path) -> None:
    directory = _directory(tmp_path / "model")
    first, second = (save_checkpoint(ArtifactStore(tmp_path / name), directory) for name in ("a", "b"))
    assert first.sha256 == second.sha256


def test_stored_checkpoint_opens_with_its_files(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    opened = open_checkpoint(store, save_checkpoint(store, _directory(tmp_path / "model")), cache=tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in opened.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"weights",
    }
