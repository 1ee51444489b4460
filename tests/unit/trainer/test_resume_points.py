"""Resume points on disk: whole or absent."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mendloop.core.errors import Interrupted
from mendloop.trainer.adapters.resume_points import forget_points, job_lock, newest_point, save_point


def _writer(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        target = folder / "checkpoint-1"
        target.mkdir()
        (target / "weights").write_text(text)
        return target

    return write


def _save(directory: Path, step: int) -> Path:
    return save_point(directory, step=step, progress={"step": step}, write=_writer(f"weights {step}"))


def test_the_newest_point_is_found_with_its_progress(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    _save(tmp_path, 12)

    point = newest_point(tmp_path)

    assert point is not None
    assert (point.step, point.progress) == (12, {"step": 12})
    assert (point.path / "weights").read_text() == "weights 12"


def test_at_most_two_points_are_kept(tmp_path: Path) -> None:
    for step in (3, 6, 9, 12):
        _save(tmp_path, step)

    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000009", "step-000000012"]


def _truncate(path: Path) -> None:
    (path / "weights").write_text("wei")


def _change(path: Path) -> None:
    (path / "weights").write_text("weights 9")


def _lose(path: Path) -> None:
    (path / "weights").unlink()


def _tear_manifest(path: Path) -> None:
    manifest = path / "mendloop.json"
    manifest.write_bytes(manifest.read_bytes()[:40])


def _change_progress(path: Path) -> None:
    manifest = path / "mendloop.json"
    manifest.write_text(manifest.read_text().replace("6", "7"))


@pytest.mark.parametrize("damage", [_truncate, _change, _lose, _tear_manifest, _change_progress])
def test_a_damaged_point_is_deleted_and_the_one_before_is_used(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    _save(tmp_path, 3)
    damage(_save(tmp_path, 6))

    point = newest_point(tmp_path)

    assert point is not None
    assert point.step == 3
    assert not (tmp_path / "step-000000006").exists()


def _save_and_die(directory: Path) -> None:
    def write(folder: Path) -> Path:
        _writer("half")(folder)
        os.kill(os.getpid(), signal.SIGKILL)
        return folder

    save_point(directory, step=6, progress={}, write=write)


def test_a_kill_in_the_middle_of_a_save_leaves_the_point_before(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    process = multiprocessing.get_context("fork").Process(target=_save_and_die, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert any(path.name.startswith(".staging-") for path in tmp_path.iterdir())

    point = newest_point(tmp_path)

    assert point is not None
    assert point.step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> Path:
        raise OSError("broken disk")

    with pytest.raises(OSError, match="broken disk"):
        save_point(tmp_path, step=3, progress={}, write=write)

    assert list(tmp_path.iterdir()) == []
    assert newest_point(tmp_path) is None


def test_a_held_job_is_waited_for_until_the_service_stops(tmp_path: Path) -> None:
    answers = iter([False, True])

    with (
        job_lock(tmp_path / "job", is_stopping=lambda: False),
        pytest.raises(Interrupted, match="another process trains job"),
        job_lock(tmp_path / "job", is_stopping=lambda: next(answers)),
    ):
        pass
    with job_lock(tmp_path / "job", is_stopping=lambda: True):
        held_again = True
    assert held_again


def test_forgetting_deletes_points_and_lock(tmp_path: Path) -> None:
    with job_lock(tmp_path / "job", is_stopping=lambda: False):
        _save(tmp_path / "job", 3)

    forget_points(tmp_path / "job")

    assert list(tmp_path.iterdir()) == []
