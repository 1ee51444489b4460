"""Outcome tables as the controller reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import item, outcome

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.controller.adapters.outcomes import StoredOutcomes
from mendloop.controller.domain.pairs import Result
from mendloop.core.errors import CorruptArtifact
from mendloop.core.records import Item, Outcome


def test_outcomes_are_right_only_with_full_score(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    rows = [outcome("i1", axes={"verb": ("walk", "run")}), outcome("i2", score=0.5)]
    table = put_rows(store, rows, kind=Outcome)
    assert list(StoredOutcomes(store).results(table)) == [
        Result("i1", {"verb": ("walk", "run")}, True),
        Result("i2", {}, False),
    ]


def test_item_counts_once_by_its_first_repeat(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    repeats = [replace(outcome("i1", score=score), repeat_index=index) for index, score in ((1, 0.0), (0, 1.0))]
    table = put_rows(store, repeats, kind=Outcome)
    assert [result.is_correct for result in StoredOutcomes(store).results(table)] == [True]


def test_table_of_something_else_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    items = put_rows(store, [item()], kind=Item)
    text = store.put(b"no table", media_type="text/plain")
    for artifact in (items, text):
        with pytest.raises(CorruptArtifact):
            StoredOutcomes(store).results(artifact)
