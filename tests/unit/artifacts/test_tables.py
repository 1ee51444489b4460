from __future__ import annotations

import io
import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import example, item, outcome

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import MEDIA_TYPE, get_rows, put_rows, schema_of
from mendloop.core.errors import CorruptArtifact
from mendloop.core.records import Example, Item, Outcome

AXES = {"verb": ("jump", "walk"), "direction": ("none",), "no values": ()}
TEXT = "línea ∧ 名\n\t\x00 'quoted' \"twice\" 𝄞"


@pytest.fixture
def store() -> ArtifactStore:
    return ArtifactStore(f"memory://tables-{id(object())}")


def test_items_come_back_with_their_axes(store: ArtifactStore) -> None:
    rows = [
        Item("i1", TEXT, "target", "sealed", document='{"a": 1}', axes=AXES),
        item("i2"),
    ]

    assert get_rows(store, put_rows(store, rows, kind=Item), kind=Item) == rows


def test_examples_come_back_with_their_axes(store: ArtifactStore) -> None:
    rows = [Example(TEXT, TEXT, "teacher:scan", axes=AXES), example("walk", completion="I_WALK")]

    assert get_rows(store, put_rows(store, rows, kind=Example), kind=Example) == rows


def test_outcomes_come_back_with_their_axes_and_numbers(store: ArtifactStore) -> None:
    rows = [
        outcome("i1", axes=AXES),
        outcome("i2", score=1 / 3, stop_reason="length", split="sealed", output=""),
    ]

    assert get_rows(store, put_rows(store, rows, kind=Outcome), kind=Outcome) == rows


def test_an_infinite_log_probability_survives(store: ArtifactStore) -> None:
    [row] = [outcome()]
    unlikely = Outcome(**{name: getattr(row, name) for name in row.__slots__} | {"target_logprob": -math.inf})

    assert get_rows(store, put_rows(store, [unlikely], kind=Outcome), kind=Outcome) == [unlikely]


@pytest.mark.parametrize("kind", [Item, Example, Outcome])
def test_no_rows_are_a_table_too(store: ArtifactStore, kind: type[Item] | type[Example] | type[Outcome]) -> None:
    artifact = put_rows(store, [], kind=kind)

    assert artifact.media_type == MEDIA_TYPE
    assert get_rows(store, artifact, kind=kind) == []


def test_the_same_rows_are_the_same_bytes(store: ArtifactStore) -> None:
    rows = [example("walk", verb="walk"), example("run", verb="run")]

    assert put_rows(store, rows, kind=Example) == put_rows(store, list(rows), kind=Example)


def test_the_schema_names_its_record_and_keeps_axes_as_a_map() -> None:
    schema = schema_of(Example)

    assert schema.names == ["prompt", "completion", "source", "axes"]
    assert schema.field("axes").type == pa.map_(pa.string(), pa.list_(pa.string()))
    assert schema.metadata == {b"mendloop.record": b"Example"}


def test_rows_of_another_record_are_refused(store: ArtifactStore) -> None:
    artifact = put_rows(store, [item()], kind=Item)

    with pytest.raises(CorruptArtifact, match="not Example rows"):
        get_rows(store, artifact, kind=Example)


def test_bytes_that_are_no_table_are_refused(store: ArtifactStore) -> None:
    artifact = store.put(b"PAR1 but not really PAR1", media_type=MEDIA_TYPE)

    with pytest.raises(CorruptArtifact, match="not Parquet"):
        get_rows(store, artifact, kind=Example)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "", "completion": "x", "source": "s", "axes": []},
        {"prompt": "p", "completion": None, "source": "s", "axes": []},
        {"prompt": "p", "completion": "x", "source": "s", "axes": None},
        {"prompt": "p", "completion": "x", "source": "s", "axes": [("a", None)]},
    ],
    ids=["empty prompt", "no completion", "no axes", "axis without values"],
)
def test_a_table_with_an_impossible_row_is_refused(store: ArtifactStore, row: dict[str, object]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=schema_of(Example)), buffer)
    artifact = store.put(buffer.getvalue(), media_type=MEDIA_TYPE)

    with pytest.raises(CorruptArtifact, match="no good Example"):
        get_rows(store, artifact, kind=Example)


def test_what_was_added_to_outcomes_comes_back(store: ArtifactStore) -> None:
    full = replace(
        outcome(),
        latency_s=0.25,
        seed=2**53,
        candidate_count=3,
        first_wrong_step=0,
        wrong_operation="+",
        target_logprobs=(-0.5, -math.inf),
    )

    assert get_rows(store, put_rows(store, [full, outcome()], kind=Outcome), kind=Outcome) == [full, outcome()]


def _without(store: ArtifactStore, *columns: str) -> Artifact:
    table = pq.read_table(io.BytesIO(store.get(put_rows(store, [outcome("i1", axes=AXES)], kind=Outcome))))
    buffer = io.BytesIO()
    pq.write_table(table.drop_columns(list(columns)), buffer)
    return store.put(buffer.getvalue(), media_type=MEDIA_TYPE)


@pytest.mark.parametrize("last", ["axes", "seed", "wrong_operation"])
def test_a_table_of_an_older_version_reads_with_defaults(store: ArtifactStore, last: str) -> None:
    names = schema_of(Outcome).names
    older = _without(store, *names[names.index(last) + 1 :])

    assert get_rows(store, older, kind=Outcome) == [outcome("i1", axes=AXES)]


@pytest.mark.parametrize("missing", ["axes", "score", "latency_s"])
def test_a_table_with_a_hole_is_no_older_version(store: ArtifactStore, missing: str) -> None:
    with pytest.raises(CorruptArtifact, match="not Outcome rows"):
        get_rows(store, _without(store, missing), kind=Outcome)
