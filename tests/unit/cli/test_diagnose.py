"""`mend diagnose` on files from anywhere: verdicts, abstentions with their reason, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mendloop.cli.app import app
from mendloop.core.errors import InvalidResults, MendloopError
from mendloop.suites.importers.reading import FORMATS

RUNNER = CliRunner()


def _rows(count: int, *, wrong: Callable[[int], bool], answer: str = "42") -> list[dict[str, object]]:
    return [
        {
            "id": f"q{number}",
            "prompt": f"what is question {number} about",
            "output": "7" if wrong(number) else answer,
            "target": answer,
            "axes": {"topic": "odd" if number % 2 else "even"},
        }
        for number in range(count)
    ]


def _file(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _run(*arguments: str | Path) -> Result:
    return RUNNER.invoke(app, ["diagnose", *map(str, arguments)])


def test_outcomes_alone_give_an_abstention_that_says_what_was_not_given(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(80, wrong=lambda number: number % 2 == 1))

    done = _run(results, "--json")

    found = json.loads(done.stdout)
    assert [(verdict["slice"], verdict["cause"]) for verdict in found["verdicts"]] == [("topic=odd", "UNKNOWN")]
    assert "not given: model, corpus" in found["remarks"][0]
    assert found["verdicts"][0]["failed_count"] == 40


def test_every_probe_that_could_not_run_says_why(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(80, wrong=lambda number: number % 2 == 1))

    evidence = json.loads(_run(results, "--json", "--all-probes").stdout)["verdicts"][0]["evidence"]

    unmeasured = [row for row in evidence if row["n"] == 0]
    assert unmeasured
    assert all(row["reading"].endswith(".") for row in unmeasured)


def test_nothing_failed_is_an_answer(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(30, wrong=lambda number: False))

    done = _run(results)

    assert done.exit_code == 0
    assert "nothing to explain" in done.output


def test_three_failures_are_too_few_to_tell(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(60, wrong=lambda number: number < 3))

    verdict = json.loads(_run(results, "--json").stdout)["verdicts"][0]

    assert verdict["cause"] == "UNKNOWN"
    assert "too few failures: 3" in verdict["summary"]


def test_a_page_shows_the_failures_and_escapes_them(tmp_path: Path) -> None:
    rows = _rows(60, wrong=lambda number: number % 2 == 1)
    for row in rows:
        row["prompt"] = f"<script>alert(1)</script> {row['prompt']}"
    page = tmp_path / "why.html"

    done = _run(_file(tmp_path / "results.jsonl", rows), "--html", page)

    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "topic=odd" in text


def test_the_slice_can_be_named(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(80, wrong=lambda number: number % 4 == 0))

    verdicts = json.loads(_run(results, "--slice", "topic=even", "--json").stdout)["verdicts"]

    assert [(verdict["slice"], verdict["n"]) for verdict in verdicts] == [("topic=even", 40)]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--slice", "odd", "AXIS=VALUE"),
        ("--variant", "magic=x.jsonl", "KIND=RESULTS"),
        ("--task-option", "nothing", "NAME=VALUE"),
    ],
)
def test_a_malformed_option_is_told_how_it_is_written(tmp_path: Path, option: str, value: str, words: str) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(20, wrong=lambda number: True))

    done = _run(results, option, value)

    assert done.exit_code == 2
    assert words in done.output


def test_the_format_is_taken_from_its_option_where_it_cannot_be_guessed(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.json", _rows(80, wrong=lambda number: number % 2 == 1))
    again = _file(tmp_path / "again.json", _rows(80, wrong=lambda number: False))

    guessed = _run(results, "--variant", f"steps={again}", "--json")
    named = _run(results, "--variant", f"steps={again}", "--format", "jsonl", "--json")

    assert isinstance(guessed.exception, InvalidResults)
    assert "--format" in str(guessed.exception)
    assert [verdict["slice"] for verdict in json.loads(named.stdout)["verdicts"]] == ["topic=odd"]


def test_a_format_that_is_not_the_files_is_believed_and_refused_by_its_reader(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(80, wrong=lambda number: number % 2 == 1))

    done = _run(results, "--format", "lm-eval")

    assert isinstance(done.exception, InvalidResults)
    assert "results.jsonl" in str(done.exception)


def test_an_unknown_format_is_answered_with_those_there_are(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(20, wrong=lambda number: True))

    done = _run(results, "--format", "csv")

    assert done.exit_code == 2
    assert all(name in done.output for name in ("'csv'", *FORMATS))


def test_a_slice_without_items_is_an_error_that_names_it(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(40, wrong=lambda number: number % 2 == 1))

    done = _run(results, "--slice", "topic=neither")

    assert isinstance(done.exception, InvalidResults)
    assert "topic=neither" in str(done.exception)


def test_a_model_that_does_not_load_is_an_error_before_any_verdict(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(40, wrong=lambda number: number % 2 == 1))
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"no weights")

    done = _run(results, "--model", broken)

    assert isinstance(done.exception, MendloopError)
    assert "does not load" in str(done.exception)


def test_a_corpus_that_is_not_the_models_still_gives_an_answer(tmp_path: Path) -> None:
    results = _file(tmp_path / "results.jsonl", _rows(80, wrong=lambda number: number % 2 == 1))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"prompt": f"p {n}", "completion": "c"}) + "\n" for n in range(30)))

    verdict = json.loads(_run(results, "--corpus", corpus, "--json").stdout)["verdicts"][0]

    assert verdict["cause"] == "UNKNOWN"
    assert verdict["summary"]
