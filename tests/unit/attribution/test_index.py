"""An index that is killed, grows, is damaged or meets a full disk."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mendloop.attribution.domain.influence import Block, Rows
from mendloop.attribution.index import GradientIndex, build_index, open_index, text_id
from mendloop.attribution.ports import Text
from mendloop.core.errors import CorruptArtifact, Permanent, Retryable

TEXTS = [Text(f"p{at}", f"c{at}") for at in range(10)]


class CountingSource:
    """Gradients that are drawn from the text; remembers what it was asked."""

    identity = "ab" * 32
    blocks = (Block("first", 6), Block("second", 4))

    def __init__(self) -> None:
        self.asked: list[Text] = []

    def rows(self, texts: Sequence[Text]) -> Rows:
        self.asked += texts
        seeds = [int(text_id(text)[:8], 16) for text in texts]
        return np.stack(
            [np.random.default_rng(seed).normal(size=10) * 10.0 ** (seed % 9 - 4) for seed in seeds]
        ).astype(np.float32)


def build(source: CountingSource, texts: Sequence[Text], root: Path, **options: object) -> GradientIndex:
    return build_index(source, texts, root=root, shard_rows=4, storage="float32", **options)[0]  # type: ignore[arg-type]  # options of one type


def rows_of(index: GradientIndex, texts: Sequence[Text] = TEXTS) -> Rows:
    return index.rows([text_id(text) for text in texts])


def test_rows_come_back_in_the_order_asked_from_all_shards(tmp_path: Path) -> None:
    source = CountingSource()
    build(source, TEXTS, tmp_path)
    opened = open_index(tmp_path / source.identity)
    backwards = TEXTS[::-1]
    np.testing.assert_allclose(rows_of(opened, backwards), source.rows(backwards), rtol=1e-5)
    assert [shard.row_count for shard in opened.shards] == [4, 4, 2]


def test_half_precision_keeps_tiny_and_huge_gradients(tmp_path: Path) -> None:
    source = CountingSource()
    index, _ = build_index(source, TEXTS, root=tmp_path, storage="float16")
    expected = source.rows(TEXTS)
    assert np.ptp(np.log10(np.linalg.norm(expected, axis=1))) > 3, "the norms of this test must differ"
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows_of(index) / norms, expected / norms, atol=1e-3)


def test_a_killed_build_goes_on_after_its_last_complete_shard(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        build(CountingSource(), TEXTS, tmp_path, on_progress=kill)
    second = CountingSource()
    index = build(second, TEXTS, tmp_path)
    assert second.asked == TEXTS[8:]
    np.testing.assert_allclose(rows_of(index), CountingSource().rows(TEXTS), rtol=1e-5)


def test_a_half_written_file_is_not_taken_for_a_shard(tmp_path: Path) -> None:
    source = CountingSource()
    folder = tmp_path / source.identity
    folder.mkdir()
    (folder / ".0123.rows.npy.partial").write_bytes(b"half")
    assert rows_of(build(source, TEXTS, tmp_path)).shape == (10, 10)
    assert source.asked == TEXTS


def test_an_index_that_grew_equals_one_built_at_once(tmp_path: Path) -> None:
    source = CountingSource()
    build(source, TEXTS[:5], tmp_path / "grown")
    source.asked.clear()
    grown = build(source, TEXTS[::-1], tmp_path / "grown")
    assert sorted(text.prompt for text in source.asked) == [f"p{at}" for at in range(5, 10)]
    np.testing.assert_array_equal(rows_of(grown), rows_of(build(source, TEXTS, tmp_path / "at_once")))


def test_repeated_examples_have_one_row(tmp_path: Path) -> None:
    index, built = build_index(CountingSource(), [*TEXTS, *TEXTS], root=tmp_path)
    assert (built.computed_count, built.reused_count) == (10, 0)
    assert len(index.places) == 10


@pytest.mark.parametrize("ending", ["rows.npy", "ids.npy"])
def test_a_damaged_shard_is_found_by_its_hash_and_built_again_alone(tmp_path: Path, ending: str) -> None:
    source = CountingSource()
    index = build(source, TEXTS, tmp_path)
    path = index.folder / f"{index.shards[1].name}.{ending}"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptArtifact, match="build the index again: only its rows are computed"):
        rows_of(open_index(index.folder))
    source.asked.clear()
    repaired, built = build_index(source, TEXTS, root=tmp_path, shard_rows=4, storage="float32")
    assert built.corrupted == (index.shards[1].name,)
    assert source.asked == TEXTS[4:8]
    np.testing.assert_allclose(rows_of(repaired), source.rows(TEXTS), rtol=1e-5)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = build(CountingSource(), TEXTS, tmp_path)
    (index.folder / index.shards[2].rows_file).unlink()
    with pytest.raises(CorruptArtifact, match=r"rows\.npy is missing"):
        rows_of(open_index(index.folder))


def test_a_folder_without_an_index_and_a_broken_manifest_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="build an index there first"):
        open_index(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CorruptArtifact, match="is no manifest"):
        open_index(tmp_path)


def test_a_full_disk_says_what_to_do_and_keeps_complete_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullAfterFour(CountingSource):
        def rows(self, texts: Sequence[Text]) -> Rows:
            if self.asked:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().rows(texts)

    with pytest.raises(Retryable, match="is full: free space or keep less"):
        build(FullAfterFour(), TEXTS, tmp_path)
    assert [shard.row_count for shard in open_index(tmp_path / CountingSource.identity).shards] == [4]
