"""`mendloop.eval_log`: the importers under a public name, with the same results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mendloop import eval_log


def _samples(folder: Path) -> Path:
    path = folder / "samples_sums.jsonl"
    rows = [
        {
            "doc_id": n,
            "doc": {"question": f"{n}+1"},
            "target": str(n + 1),
            "arguments": [[f"{n}+1=", {"until": ["."]}]],
            "resps": [[str(n + 1 if n else 9)]],
            "filtered_resps": [str(n + 1 if n else 9)],
            "exact_match": float(n > 0),
            "metrics": ["exact_match"],
        }
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_log_says_accuracy_with_its_interval(tmp_path: Path) -> None:
    log = eval_log.read_lm_eval(_samples(tmp_path))
    assert (log.accuracy, log.item_count, log.formats) == (0.75, 4, ("lm-eval",))
    assert log.accuracy_interval.low < 0.75 < log.accuracy_interval.high
    assert log.outcomes[0].output == "9"


def test_written_log_reads_as_it_was(tmp_path: Path) -> None:
    log = eval_log.read(_samples(tmp_path))
    assert eval_log.write_parquet(tmp_path / "outcomes.parquet", log) > 0
    assert repr(eval_log.read(tmp_path / "outcomes.parquet").outcomes) == repr(log.outcomes)  # NaN is not NaN


def test_file_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(eval_log.InvalidResults):
        eval_log.read_inspect(_samples(tmp_path))
