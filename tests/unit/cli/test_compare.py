"""`mend import-eval` and `mend compare` on files: what they print, write and refuse."""

from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from mendloop.cli.app import app
from mendloop.core.errors import InvalidResults
from mendloop.suites.importers.reading import read_results

RUNNER = CliRunner()
BBH = Path(__file__).resolve().parents[4] / "shared" / "data" / "bbh"
BBH_FILES = sorted(BBH.glob("*.jsonl"))
EVIL = "<script>alert(1)</script>"


def _results(file: Path, *, right: int, n: int = 60, **more: object) -> Path:
    rows = [
        {
            "id": f"i{index}",
            "prompt": f"{EVIL} {index}",
            "output": "4" if index < right else "5",
            "target": "4",
            "axes": {"task": "sums" if index % 2 else "products_of_two", "size": "small" if index < 20 else "large"},
            **more,
        }
        for index in range(n)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    return (
        str(_results(tmp_path / "before.jsonl", right=20)),
        str(_results(tmp_path / "after.jsonl", right=50, n=61)),
    )


def _run(*arguments: str) -> str:
    result = RUNNER.invoke(app, list(arguments), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_import_writes_outcomes_and_says_accuracy_and_what_was_dropped(tmp_path: Path) -> None:
    file = _results(tmp_path / "r.jsonl", right=45, modle="x")
    file.write_text(file.read_text() + '\n{"id": "bad", "prompt": "p", "output": "o", "target": ""}')
    out = tmp_path / "out.parquet"

    printed = _run("import-eval", str(file), "--out", str(out), "--skip-bad")

    assert "60 outcomes (jsonl): accuracy 75.0%, 95 % interval 62.1% to 85.3%" in printed
    assert "dropped 1: item without target" in printed
    assert "noted 60: unknown field 'modle'" in printed
    assert len(read_results(out).outcomes) == 60


def test_import_refuses_bad_rows_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text('{"id": "bad", "prompt": "p", "output": "o", "target": "t", "score": NaN}')

    result = RUNNER.invoke(app, ["import-eval", str(file), "--out", str(tmp_path / "o.parquet")])

    assert isinstance(result.exception, InvalidResults)
    assert "r.jsonl:1: field 'score' is NaN" in str(result.exception)
    assert not (tmp_path / "o.parquet").exists()


def test_compare_prints_tasks_slices_unpaired_items_and_what_cannot_be_seen(pair: tuple[str, str]) -> None:
    printed = _run("compare", *pair, "--by", "size", "--anytime")

    assert "after is better than before by 50.0 points on 60 items" in printed
    assert "These 60 items cannot see less than" in printed
    assert "unpaired, only in the second set: 1" in printed
    assert "p corrected over 4 row(s) by Holm" in printed
    assert "valid at every look" in printed
    for row in ("products_of_two", "sums", "large", "small"):
        assert row in printed


def test_json_has_the_figures_and_how_the_files_were_read(pair: tuple[str, str]) -> None:
    document = json.loads(_run("compare", *pair, "--json", "--correction", "bh", "--names", "old,new"))

    assert (document["first"]["name"], document["second"]["name"]) == ("old", "new")
    assert document["settings"]["correction"] == "bh"
    assert document["overall"]["gained"] == 30
    assert len(document["gained"]) == 30
    assert document["imports"]["first"]["notes"] == {"scored here by exact match": 60}


def test_the_page_is_whole_escaped_and_needs_no_network(pair: tuple[str, str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    _run("compare", *pair, "--by", "size", "--anytime", "--html", str(page))

    text = page.read_text()
    found = _Page()
    found.feed(text)
    assert EVIL not in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert not found.links
    assert found.tags["table"] >= 1
    assert found.tags["polygon"] == 2  # the diamond of all items and the band of the looks
    assert found.tags["circle"] == 4  # one a row
    assert found.tags["details"] == 16
    assert "prefers-color-scheme: dark" in text


def test_files_without_a_common_item_are_refused(tmp_path: Path) -> None:
    first = _results(tmp_path / "a.jsonl", right=1, n=2)
    other = tmp_path / "b.jsonl"
    other.write_text('{"id": "z", "prompt": "p", "output": "o", "target": "t"}')

    result = RUNNER.invoke(app, ["compare", str(first), str(other)])

    assert isinstance(result.exception, InvalidResults)
    assert "share no item" in str(result.exception)


@pytest.mark.parametrize(
    ("option", "value"), [("--format", "xml"), ("--correction", "none"), ("--names", "only one"), ("--confidence", "2")]
)
def test_wrong_options_are_refused(pair: tuple[str, str], option: str, value: str) -> None:
    assert RUNNER.invoke(app, ["compare", *pair, option, value]).exit_code != 0


@pytest.mark.skipif(not BBH.is_dir(), reason=f"the stored BIG-Bench Hard answers are not at {BBH}")
def test_big_bench_hard_is_counted_right_and_its_losses_without_an_answer_are_named(tmp_path: Path) -> None:
    bench = _benchmark()
    for style in (bench.ANSWER_ONLY, bench.CHAIN_OF_THOUGHT):
        bench.write(tmp_path / f"{style}.parquet", bench.outcomes(BBH, style=style))

    first, second = (str(tmp_path / f"{style}.parquet") for style in (bench.ANSWER_ONLY, bench.CHAIN_OF_THOUGHT))
    document = json.loads(_run("compare", first, second, "--json"))

    rows = {row["value"]: row for row in document["rows"]}
    assert {(task, row["n"], row["lost"], row["gained"]) for task, row in rows.items()} == set(map(_flips, BBH_FILES))
    assert len(rows) == 13
    assert (rows["navigate"]["reading"], rows["word_sorting"]["reading"]) == ("better", "worse")
    assert rows["word_sorting"]["unanswered"] == {"first": 0, "second": 146, "lost": 43}
    assert document["silent_losses"][0].startswith("task word_sorting: 43 of 44 lost items have no answer")


def _flips(file: Path) -> tuple[str, int, int, int]:
    """(task, n, lost, gained), counted from the raw file in another way than the product does."""
    before, after = [], []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        said = re.search(r".*So the answer is (.*?)\.?\s*$", row["prediction_chain_of_thought"], re.DOTALL)
        before.append(row["prediction_answer_only"].strip() == row["target"])
        after.append(said is not None and said[1] == row["target"])
    pairs = list(zip(before, after, strict=True))
    return file.stem, len(pairs), pairs.count((True, False)), pairs.count((False, True))


def _benchmark() -> ModuleType:
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "bbh_compare.py"
    spec = importlib.util.spec_from_file_location("bbh_compare", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Page(HTMLParser):
    """Counts tags and collects addresses that would need a network."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.links += [
            str(value) for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]
