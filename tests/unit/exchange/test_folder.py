"""An export appears whole or not at all, and eats nobody's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mendloop.core.errors import Permanent, Retryable
from mendloop.exchange.folder import write_folder

FILES = {"lineage.json": b"{}", "data/rows.parquet": b"rows"}


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_folders_on_the_way_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "b", FILES, force=False)

    assert listed(tmp_path) == ["a/b/data/rows.parquet", "a/b/lineage.json"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    write_folder(tmp_path / "out", FILES, force=False)

    assert (tmp_path / "out" / "data" / "rows.parquet").read_bytes() == b"rows"


def test_an_earlier_export_is_replaced_only_when_forced(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", {**FILES, "old.txt": b"old"}, force=False)

    with pytest.raises(Permanent, match=r"is not empty.*--force"):
        write_folder(tmp_path / "out", FILES, force=False)
    assert (tmp_path / "out" / "old.txt").exists()
    write_folder(tmp_path / "out", FILES, force=True)

    assert listed(tmp_path) == ["out/data/rows.parquet", "out/lineage.json"]


def test_force_does_not_replace_what_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")

    with pytest.raises(Permanent, match="holds no earlier export"):
        write_folder(tmp_path, FILES, force=True)

    assert listed(tmp_path) == ["letters.txt"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")

    with pytest.raises(Permanent, match="out is no folder"):
        write_folder(tmp_path / "out", FILES, force=True)


def test_a_rename_that_fails_brings_the_earlier_export_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "out", {**FILES, "old.txt": b"old"}, force=False)
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("mendloop.exchange.folder.os.replace", full)
    with pytest.raises(Retryable, match=r"No space left on device; nothing was changed there"):
        write_folder(tmp_path / "out", FILES, force=True)

    assert listed(tmp_path) == ["out/data/rows.parquet", "out/lineage.json", "out/old.txt"]
