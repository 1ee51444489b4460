from __future__ import annotations

import importlib.util
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from builders import item
from generator_world import BIG, SMALL, sum_of
from numpy.typing import NDArray

from mendloop.core.errors import Interrupted
from mendloop.core.recipe import RetrievalSettings
from mendloop.core.records import Example, Item
from mendloop.data_generator.domain.fusion import fused
from mendloop.data_generator.ports import Shelf, Source

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lancedb") is None, reason="lancedb is not installed: uv pip install 'mendloop[retrieval]'"
)
POOL = [sum_of(left, right, source="web") for left in (*range(6), *range(200, 206)) for right in range(20, 26)]


class HashedWords:
    """Vectors of hashed words; counts what it embeds."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        rows = np.full((len(texts), 16), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[zlib.crc32(word.encode()) % 16] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass
class Library:
    """A folder of tables with one embedder."""

    folder: Path
    embedder: HashedWords = field(default_factory=HashedWords)
    fitted_count: int = 0

    def fitted(self, texts: Sequence[str]) -> tuple[HashedWords, str, bytes]:
        self.fitted_count += 1
        return self.embedder, "hashed-words", b"state"

    def restored(self, name: str, state: bytes) -> HashedWords:
        assert (name, state) == ("hashed-words", b"state")
        return self.embedder

    def source(
        self,
        pool: Sequence[Example] = POOL,
        *,
        items: Sequence[Item] = (),
        is_stopping: Callable[[], bool] = lambda: False,
        **settings: object,
    ) -> Source:
        from mendloop.data_generator.adapters.retrieval import open_retrieval

        shelf = Shelf("sums", RetrievalSettings.model_validate(settings), pool, items, is_stopping)
        [source] = open_retrieval(self.folder, embedding=self)(shelf)
        return source


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def prompts(source: Source, *, seed: int = 1, slice_of: tuple[tuple[str, str], ...] = BIG) -> list[str]:
    return [row.prompt for row in source.candidates(slice_of, seed=seed)]


@pytest.mark.parametrize("mode", ["hybrid", "bm25", "vectors"])
def test_what_is_most_like_the_slices_items_comes_first_and_nothing_outside_the_slice(
    library: Library, mode: str
) -> None:
    asked = [item("i", prompt="add 203 24", target="227", size="big"), item("j", prompt="add 3 24", size="small")]
    source = library.source(items=asked, mode=mode)

    rows = list(source.candidates(BIG, seed=1))

    assert rows[0].prompt == "add 203 24"
    assert {row.source for row in rows} == {"retrieval"}
    assert all(row.axes["size"] == ("big",) for row in rows)
    assert rows[0] in [row for row in rows if "203" in row.prompt or "24" in row.prompt]


def test_the_order_is_fixed_by_seed_and_table(library: Library) -> None:
    asked = [item(f"i{n}", prompt=f"add {200 + n} 2{n}", target="1", size="big") for n in range(6)]

    first = prompts(library.source(items=asked, queries=2), seed=1)

    assert prompts(library.source(items=list(reversed(asked)), queries=2), seed=1) == first
    assert prompts(library.source(items=asked, queries=2), seed=2) != first
    assert sorted(first) == sorted({row.prompt for row in POOL if row.axes["size"] == ("big",)})


def test_no_more_than_the_top_are_given(library: Library) -> None:
    assert len(prompts(library.source(items=[item(prompt="add 203 24", size="big")], top=4))) == 4


def test_a_slice_without_items_is_searched_by_its_own_values(library: Library) -> None:
    assert set(prompts(library.source())) <= {row.prompt for row in POOL if row.axes["size"] == ("big",)}
    assert prompts(library.source(), slice_of=()) == []


def test_new_rows_of_a_grown_pool_are_all_that_is_embedded(library: Library) -> None:
    library.source(POOL[:40])
    before = len(library.embedder.embedded)

    grown = library.source(items=[item(prompt=POOL[-1].prompt, size="big")])

    assert library.embedder.embedded[before:] == [row.prompt for row in POOL[40:]]
    assert prompts(grown)[0] == POOL[-1].prompt
    assert library.fitted_count == 1


def test_a_build_that_is_stopped_goes_on_where_it_was(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    from mendloop.data_generator.adapters import retrieval_table

    monkeypatch.setattr(retrieval_table, "CHUNK", 16)
    with pytest.raises(Interrupted, match="16 of 72 rows"):
        library.source(is_stopping=lambda: True)

    resumed = library.source(items=[item(prompt="add 203 24", size="big")])

    assert library.embedder.embedded == [row.prompt for row in POOL]
    assert len(prompts(resumed)) == 36


def test_rows_of_another_pool_in_the_same_table_are_never_given_and_hide_none(library: Library) -> None:
    asked = [item(prompt="add 203 24", size="big")]
    library.source([sum_of(203, 24 + 100 * n, source="other") for n in range(30)])

    found = prompts(library.source(items=asked, top=36))

    assert sorted(found) == sorted(row.prompt for row in POOL if row.axes["size"] == ("big",))


def test_queries_with_quotes_and_operators_are_words(library: Library) -> None:
    odd = [item(prompt="""it's "203" AND (24 OR -x) ?""", size="big"), item("j", prompt="???", size="big")]
    quoted = Example("add 203 24 or so", "227", "web", axes={"size": ("it's big",)})

    assert prompts(library.source(items=odd, mode="bm25"))[0] == "add 203 24"
    assert prompts(library.source([quoted], items=odd), slice_of=(("size", "it's big"),)) == [quoted.prompt]


def test_equal_ranks_are_ordered_by_the_seed_and_agreement_comes_first() -> None:
    lists = [["a", "b", "c"], ["b", "a", "d"]]

    assert set(fused(lists, seed=1)[:2]) == {"a", "b"}
    assert fused(lists, seed=1)[2:] in (["c", "d"], ["d", "c"])
    assert len({tuple(fused(lists, seed=seed)) for seed in range(20)}) > 1
    assert fused([["x", "y"], ["y"]], seed=0) == ["y", "x"]


def test_the_query_sample_never_depends_on_the_global_generator(library: Library) -> None:
    asked = [item(f"i{n}", prompt=f"add {n} 20", size="small") for n in range(6)]
    random.seed(1)
    first = prompts(library.source(items=asked, queries=1), slice_of=SMALL)
    random.seed(2)

    assert prompts(library.source(items=asked, queries=1), slice_of=SMALL) == first
