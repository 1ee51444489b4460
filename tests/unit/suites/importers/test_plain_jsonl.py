"""Plain JSONL: good rows become outcomes; each fault is refused with line, field and value, or dropped and counted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mendloop.core.errors import InvalidResults
from mendloop.suites.importers.answers import score_answer
from mendloop.suites.importers.collecting import Options
from mendloop.suites.importers.outcome_parquet import write
from mendloop.suites.importers.reading import format_of, read_results, size_of

GOOD = {"id": "1", "prompt": "1 + 1 =", "output": "2", "target": "2"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def _write(file: Path, *rows: object) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return file


def test_every_documented_field_arrives(file: Path) -> None:
    row = {**GOOD, "score": 0.5, "axes": {"task": "sums", "digits": [1, 2]}, "group": "page 3", "repeat": 2}

    (one,) = read_results(_write(file, row)).outcomes

    assert (one.item_id, one.prompt, one.output, one.target, one.score) == ("1", "1 + 1 =", "2", "2", 0.5)
    assert one.axes == {"task": ("sums",), "digits": ("1", "2"), "group": ("page 3",)}
    assert (one.repeat_index, one.extraction, one.stop_reason) == (2, "given", "unknown")
    assert (one.prompt_token_count, one.output_token_count) == (-1, -1)
    assert math.isnan(one.target_logprob)


def test_rows_without_a_score_are_scored_by_exact_match_and_counted(file: Path) -> None:
    found = read_results(_write(file, GOOD, {**GOOD, "id": 2, "output": "3"}, {**GOOD, "id": 3, "output": ""}))

    assert [row.score for row in found.outcomes] == [1.0, 0.0, 0.0]
    assert [row.extraction for row in found.outcomes] == ["whole", "whole", "none"]
    assert found.notes == {"scored here by exact match": 3}


@pytest.mark.parametrize(
    ("output", "score", "extraction"),
    [
        ("3 - 1. So the answer is 2.", 1.0, "after:answer is"),
        ("The answer is 3? No. So the answer is 2\nQ: next", 1.0, "after:answer is"),
        ("So the answer is 3.", 0.0, "after:answer is"),
        ("2", 0.0, "none"),
        ("So the answer is ", 0.0, "none"),
    ],
)
def test_the_answer_follows_the_last_marker(output: str, score: float, extraction: str) -> None:
    found = score_answer(output, "2", after="answer is")

    assert (found.value, found.extraction) == (score, extraction)


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        ({**GOOD, "target": ""}, "item without target", "field 'target' is ''"),
        ({k: v for k, v in GOOD.items() if k != "target"}, "item without target", "field 'target' is None"),
        ({**GOOD, "id": None}, "item without id", "field 'id' is None"),
        ({**GOOD, "output": None}, "item without output", "field 'output' is None"),
        ({**GOOD, "score": math.nan}, "NaN score", "field 'score' is NaN"),
        ({**GOOD, "score": 7}, "score outside 0..1", "field 'score' is 7"),
        ({**GOOD, "score": "good"}, "score is no number", "field 'score' is 'good'"),
        ({**GOOD, "repeat": -1}, "bad repeat", "field 'repeat' is -1"),
        ({**GOOD, "axes": ["x"]}, "bad axes", "field 'axes' is ['x']"),
        ('{"id": "1", "prom', "not JSON", "not a JSON object"),
        ("[1, 2]", "not JSON", "holds [1, 2]"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_or_dropped_and_counted(
    file: Path, bad: object, reason: str, words: str
) -> None:
    _write(file, {**GOOD, "id": "0"}, bad)

    with pytest.raises(InvalidResults) as caught:
        read_results(file)
    dropped = read_results(file, options=Options(drops_bad_rows=True))

    assert f"results.jsonl:2: {words}" in str(caught.value)
    assert dropped.dropped == {reason: 1}
    assert len(dropped.outcomes) == 1


def test_an_id_twice_names_both_lines_and_repeats_are_no_duplicates(file: Path) -> None:
    with pytest.raises(InvalidResults, match=r"jsonl:2: id '1', repeat 0 was read before at results\.jsonl:1"):
        read_results(_write(file, GOOD, GOOD))

    assert read_results(_write(file, GOOD, {**GOOD, "repeat": 1})).item_count == 1


def test_many_problems_are_shown_in_part_and_counted(file: Path) -> None:
    rows = [{**GOOD, "id": index, "target": ""} for index in range(8)]

    with pytest.raises(InvalidResults, match=r"8 rows are no outcome[\s\S]*:5: [\s\S]*and 3 more"):
        read_results(_write(file, *rows))


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_refused(file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(InvalidResults, match=r"holds no outcome \(it is empty\)"):
        read_results(file)


def test_unknown_fields_are_counted_and_told(file: Path) -> None:
    found = read_results(_write(file, {**GOOD, "modle": "x"}, {**GOOD, "id": 2, "modle": "y", "score": 1}))

    assert found.notes["unknown field 'modle'"] == 2


def test_a_missing_path_and_a_folder_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidResults, match="there is no file or folder"):
        read_results(tmp_path / "nowhere.jsonl")
    with pytest.raises(InvalidResults, match="holds no file of results"):
        read_results(tmp_path)


def test_a_file_in_no_known_format_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "results.txt"
    other.write_text("accuracy: 0.7")

    with pytest.raises(InvalidResults, match="is in no known format; name one with --format"):
        read_results(other)


def test_parquet_gives_the_same_outcomes_back(file: Path, tmp_path: Path) -> None:
    rows = read_results(_write(file, GOOD, {**GOOD, "id": 2, "group": "g", "score": 0.25})).outcomes

    write(tmp_path / "deep" / "out.parquet", rows)
    again = read_results(tmp_path / "deep" / "out.parquet")

    assert again.formats == ("parquet",)
    assert [str(row) for row in again.outcomes] == [str(row) for row in rows]  # NaN equals NaN in words
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.parquet"]


def test_parquet_of_something_else_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 and no more")

    assert format_of(bad) == "parquet"
    with pytest.raises(InvalidResults, match=r"bad\.parquet: artifact .* is not Parquet"):
        read_results(bad)


def test_progress_reaches_the_size_of_the_file(file: Path) -> None:
    seen: list[int] = []

    read_results(_write(file, GOOD, {**GOOD, "id": 2}), on_bytes=seen.append)

    assert sum(seen) == size_of(file) > 0
