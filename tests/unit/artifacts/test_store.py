from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mendloop.artifacts import store as store_module
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact, Retryable

TEXT = "text/plain"
ODD_NAMES = [
    "plain",
    "a/b/c",
    "../../escape",
    ".",
    "..",
    ".tmp-looks-like-a-write",
    "failure:0123/4567",
    "run 1?x=%2F#y",
    "жёсткий ∧ 名前",
    "*",
    "new\nline",
]


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "file":
        return ArtifactStore(tmp_path / "store")
    return ArtifactStore(f"memory://{tmp_path.name}-{os.getpid()}-{time.monotonic_ns()}")


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 1 MB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def path_of(artifact: Artifact) -> Path:
    return Path(artifact.uri.removeprefix("file://"))


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_bytes_come_back_as_they_went_in(store: ArtifactStore) -> None:
    data = bytes(range(256)) * 100

    artifact = store.put(data, media_type=TEXT)

    assert store.get(artifact) == data
    assert artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert (artifact.byte_count, artifact.media_type) == (len(data), TEXT)


def test_empty_bytes_are_an_artifact_too(store: ArtifactStore) -> None:
    assert store.get(store.put(b"", media_type=TEXT)) == b""


def test_same_bytes_are_one_object(store: ArtifactStore) -> None:
    assert store.put(b"x", media_type=TEXT) == store.put(b"x", media_type=TEXT)


def test_object_is_found_by_its_hash(store: ArtifactStore) -> None:
    artifact = store.put(b"found", media_type=TEXT)

    assert store.find(artifact.sha256, media_type=TEXT) == artifact
    assert store.find("0" * 64) is None


def test_missing_artifact_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(CorruptArtifact, match="missing"):
        store.get(Artifact("file:///nowhere", "a" * 64, 1, TEXT))


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "g" * 64])
def test_what_is_no_hash_is_refused_before_any_path_is_made(store: ArtifactStore, name: str) -> None:
    with pytest.raises(CorruptArtifact, match="SHA-256"):
        store.get(Artifact("file:///nowhere", name, 1, TEXT))


def test_truncated_artifact_is_refused(local: ArtifactStore) -> None:
    artifact = local.put(b"0123456789", media_type=TEXT)
    path_of(artifact).write_bytes(b"01234")

    with pytest.raises(CorruptArtifact, match="has 5 bytes, expected 10"):
        local.get(artifact)


def test_truncated_artifact_found_by_its_hash_is_refused_by_its_hash(local: ArtifactStore) -> None:
    artifact = local.put(b"0123456789", media_type=TEXT)
    path_of(artifact).write_bytes(b"01234")
    found = local.find(artifact.sha256)

    assert found is not None
    with pytest.raises(CorruptArtifact, match="has the hash"):
        local.get(found)


def test_truncated_artifact_is_healed_by_storing_it_again(local: ArtifactStore) -> None:
    artifact = local.put(b"0123456789", media_type=TEXT)
    path_of(artifact).write_bytes(b"01234")

    assert local.get(local.put(b"0123456789", media_type=TEXT)) == b"0123456789"


def test_changed_bytes_of_the_same_length_are_refused(local: ArtifactStore) -> None:
    artifact = local.put(b"0123456789", media_type=TEXT)
    path_of(artifact).write_bytes(b"012345678X")

    with pytest.raises(CorruptArtifact, match="has the hash"):
        local.get(artifact)


def test_artifact_that_cannot_be_read_now_is_retried(local: ArtifactStore) -> None:
    artifact = local.put(b"x", media_type=TEXT)
    path_of(artifact).unlink()
    path_of(artifact).mkdir()

    with pytest.raises(Retryable, match="cannot be read"):
        local.get(artifact)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_document_with_an_odd_name_is_found_and_listed(store: ArtifactStore, name: str) -> None:
    store.put_doc("notes", name, b"one")
    store.put_doc("notes", name, b"two")

    assert store.get_doc("notes", name) == b"two"
    assert store.doc_names("notes") == [name]


def test_document_names_are_sorted_and_stay_in_their_namespace(store: ArtifactStore) -> None:
    for name in ("b", "a"):
        store.put_doc("one", name, b"")
    store.put_doc("two", "c", b"")

    assert store.doc_names("one") == ["a", "b"]
    assert store.doc_names("nothing here") == []
    assert store.get_doc("one", "c") is None


def test_odd_names_write_nothing_outside_their_namespace(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    for name in ODD_NAMES:
        store.put_doc("notes", name, b"x")

    notes = tmp_path / "store" / "docs" / "notes"
    assert {path.parent for path in files_under(tmp_path)} == {notes}


def test_document_without_a_name_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        store.put_doc("notes", "", b"x")


def test_full_disk_leaves_no_half_artifact(tiny_disk: Path) -> None:
    store = ArtifactStore(tiny_disk / "store")
    small = store.put(b"small", media_type=TEXT)

    with pytest.raises(Retryable, match="free disk space"):
        store.put(os.urandom(2_000_000), media_type=TEXT)

    assert files_under(tiny_disk) == [path_of(small)]
    assert store.get(small) == b"small"


def test_full_disk_keeps_the_document_of_before(tiny_disk: Path) -> None:
    store = ArtifactStore(tiny_disk / "store")
    store.put_doc("notes", "n", b"old")

    with pytest.raises(Retryable, match="free disk space"):
        store.put_doc("notes", "n", os.urandom(2_000_000))

    assert store.get_doc("notes", "n") == b"old"
    assert store.doc_names("notes") == ["n"]


def test_work_goes_on_when_the_disk_has_space_again(tiny_disk: Path) -> None:
    store = ArtifactStore(tiny_disk / "store")
    ballast = tiny_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2_000_000))
    with pytest.raises(Retryable, match="free disk space"):
        store.put(bytes(100_000), media_type=TEXT)
    ballast.unlink()

    assert store.get(store.put(bytes(100_000), media_type=TEXT)) == bytes(100_000)


def test_disk_without_room_for_a_folder_is_retried(local: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local._fs, "makedirs", full)

    with pytest.raises(Retryable, match="free disk space"):
        local.put(b"x", media_type=TEXT)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_that_fails_late_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    store = ArtifactStore(tmp_path / "store")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, step, full)

    with pytest.raises(Retryable, match="free disk space"):
        store.put(b"0123456789", media_type=TEXT)
    assert files_under(tmp_path) == []


def _limited_put(folder: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        ArtifactStore(Path(folder)).put(bytes(1_000_000), media_type=TEXT)
    except Retryable:
        os._exit(42)
    os._exit(0)


def test_file_size_limit_leaves_no_half_artifact(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_limited_put, args=(str(tmp_path / "store"),))

    process.start()
    process.join(60)

    assert process.exitcode == 42
    assert files_under(tmp_path) == []


WRITER = """
import sys
from pathlib import Path
from mendloop.artifacts.store import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
sys.stdin.read()
for number in range(int(sys.argv[2])):
    print(store.put(str(number).encode() * 5000, media_type="text/plain").sha256)
"""


def writer(folder: Path, *, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_write_the_same_bytes_at_once_leave_whole_objects(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    processes = [writer(folder, count=50) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()  # all start together
    printed = [process.stdout.read().split() for process in processes if process.stdout is not None]

    assert [process.wait(60) for process in processes] == [0] * 4
    assert printed == [printed[0]] * 4
    store = ArtifactStore(folder)
    expected = {hashlib.sha256(str(n).encode() * 5000).hexdigest(): str(n).encode() * 5000 for n in range(50)}
    found = {sha: store.find(sha) for sha in expected}
    assert {sha: store.get(artifact) for sha, artifact in found.items() if artifact} == expected
    assert len(files_under(folder)) == 50


SLOW_WRITER = """
import os, sys
from pathlib import Path
from mendloop.artifacts.store import ArtifactStore
def hang(descriptor):
    print("writing", flush=True)
    sys.stdin.read()
os.fsync = hang
ArtifactStore(Path(sys.argv[1])).put(b"y" * 1_000_000, media_type="text/plain")
"""


def test_kill_during_a_write_leaves_no_object(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"  # the bytes are written, the object is not in place
    process.kill()
    process.communicate(timeout=60)

    store = ArtifactStore(folder)
    data = b"y" * 1_000_000
    assert store.find(hashlib.sha256(data).hexdigest()) is None
    assert store.get(store.put(data, media_type=TEXT)) == data


def test_what_a_killed_write_left_is_no_document(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    store.put_doc("notes", "n", b"x")
    (tmp_path / "store" / "docs" / "notes" / ".tmp-0011").write_bytes(b"half")

    assert store.doc_names("notes") == ["n"]
