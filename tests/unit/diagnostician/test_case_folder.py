"""A case from a folder or from loose files, and what is said of files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from builders import outcome
from training import tiny_checkpoint

from mendloop.core.errors import CorruptArtifact, InvalidRecipe, InvalidResults
from mendloop.core.records import Example, Item
from mendloop.diagnostician.adapters.case_folder import CaseFiles, open_case, read_case, write_case
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.probing import investigate
from mendloop.diagnostician.domain.verdict import judge

JUMP = (("verb", "jump"),)


def _row(at: int, *, verb: str = "walk", right: bool = True, **fields: object) -> dict[str, object]:
    return {
        "id": f"i{at}",
        "prompt": f"{verb} {at}",
        "output": "yes" if right else "no",
        "target": "yes",
        "axes": {"verb": verb},
        **fields,
    }


def _rows(*, weak: int = 30) -> list[dict[str, object]]:
    """Forty walks that are right; forty jumps, of which some are wrong."""
    walks = [_row(at) for at in range(40)]
    return walks + [_row(at, verb="jump", right=at - 40 >= weak) for at in range(40, 80)]


def _jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    return _jsonl(tmp_path / "outcomes.jsonl", _rows())


def _folder(folder: Path, **parts: object) -> Path:
    items = [
        Item(
            f"i{at}", "walk" if at < 20 else "jump", "I_WALK", "search", axes={"verb": ("walk" if at < 20 else "jump",)}
        )
        for at in range(40)
    ]
    rows = [outcome(row.item_id, prompt=row.prompt, score=float(row.prompt == "walk"), axes=row.axes) for row in items]
    write_case(
        folder,
        task_name="scan",
        task_options={},
        template="IN: {prompt} OUT:",
        suite={"axes": ["verb"], "max_new_tokens": 12},
        conditions=JUMP,
        outcomes=rows,
        items=items,
        corpus=[Example("run", "I_RUN", "corpus", axes={"verb": ("run",)})],
        **parts,  # type: ignore[arg-type]
    )
    return folder


def test_a_written_folder_opens_as_the_same_case(tmp_path: Path) -> None:
    report = {
        "health": [{"name": "eos_in_loss", "passed": True, "value": 1.0}],
        "loss_curve": [[10, 2.0], [20, 0.5]],
        "settings": {"steps": 20},
        "template": "Q {prompt}",
    }
    model = tiny_checkpoint(tmp_path / "tiny")

    case = open_case(_folder(tmp_path / "case", model=model, start=model, training_report=report))

    assert (case.conditions, case.failed_count, len(case.corpus)) == (JUMP, 20, 1)
    assert case.template("jump") == "IN: jump OUT:"
    assert case.suite.max_new_tokens == 12
    assert case.training is not None
    assert case.training.template is not None
    assert (case.training.template("x"), case.training.loss_curve[-1]) == ("Q x", (20, 0.5))
    assert case.model is not None
    assert case.earlier is not None
    assert case.weights is not None
    assert (case.weights() / "config.json").is_file()
    (output,) = case.model.generate([case.template("jump")], max_new_tokens=2)
    assert output.output_token_count == 2


def test_loose_outcomes_are_cases_of_their_weak_axis_values(outcomes: Path) -> None:
    case = open_case(CaseFiles(outcomes))

    assert (case.conditions, case.failed_count) == (JUMP, 30)
    assert case.model is None
    assert all(row.item.axes == {"verb": ("jump",)} for row in case.samples[0].failed)


def test_without_a_weak_axis_value_the_slice_is_the_whole_set(tmp_path: Path) -> None:
    rows = [_row(at, right=at % 2 == 0) for at in range(60)]

    assert read_case(CaseFiles(_jsonl(tmp_path / "o.jsonl", rows))).slices == ((),)


def test_the_plain_task_keeps_stored_scores_and_knows_nothing_else(outcomes: Path, tmp_path: Path) -> None:
    rows = [_row(0, score=1.0, right=False), *_rows()[1:]]
    case = open_case(CaseFiles(_jsonl(tmp_path / "o.jsonl", rows)))
    item = Item("i0", "walk 0", "yes", "search")

    assert case.task.score(item, "no").value == 1.0
    assert case.task.score(item, "yes").value == 1.0
    assert case.task.score(item, "maybe").value == 0.0
    assert case.task.rescore(item, "I think.\nSo it is YES!").value == 1.0
    assert case.task.rescore(item, "yes?\nNo.").value == 0.0
    assert not case.task.verify("walk 0", "yes")


def test_outcomes_without_prompts_are_refused_with_their_count(tmp_path: Path) -> None:
    rows = [row | {"prompt": ""} for row in _rows()]

    with pytest.raises(InvalidResults, match="80 of 80 outcomes have no prompt"):
        open_case(CaseFiles(_jsonl(tmp_path / "o.jsonl", rows)))


def test_prompts_may_come_from_the_items(tmp_path: Path) -> None:
    rows = [row | {"prompt": ""} for row in _rows()]
    items = [{"item_id": row["id"], "prompt": row["prompt"], "target": "yes", "axes": row["axes"]} for row in _rows()]

    case = open_case(CaseFiles(_jsonl(tmp_path / "o.jsonl", rows), items=_jsonl(tmp_path / "items.jsonl", items)))

    assert all(row.item.prompt.startswith("jump ") for row in case.samples[0].failed)


def test_nothing_failed_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidResults, match="none of the 80 outcomes of the whole set is a failure"):
        open_case(CaseFiles(_jsonl(tmp_path / "o.jsonl", _rows(weak=0))))


def test_few_failures_are_noted_and_the_verdict_abstains(tmp_path: Path) -> None:
    contents = read_case(CaseFiles(_jsonl(tmp_path / "o.jsonl", _rows(weak=3))))
    findings = investigate(contents.case(contents.slices[0]), [], is_clear=lambda rows: False, clock=lambda: 0.0)

    assert contents.notes["failures, fewer than the 12 that a verdict needs"] == 3
    assert "too few failures: 3" in judge(findings.evidence).because


def test_corpus_rows_that_cannot_be_trained_on_are_left_out_and_counted(outcomes: Path, tmp_path: Path) -> None:
    rows: list[Mapping[str, object]] = [
        {"prompt": "walk", "completion": "I_WALK"},
        {"prompt": "jump", "completion": " "},
        {"prompt": "run", "completion": ""},
        {"prompt": "look"},
    ]
    contents = read_case(CaseFiles(outcomes, corpus=_jsonl(tmp_path / "corpus.jsonl", [dict(row) for row in rows])))

    assert [row.prompt for row in contents.corpus] == ["walk"]
    assert contents.notes["corpus rows left out: an empty completion (first at corpus.jsonl:2: 'jump')"] == 2
    assert contents.notes["corpus rows left out: no field 'completion' (first at corpus.jsonl:4: 'look')"] == 1


def test_a_corpus_without_any_example_is_refused(outcomes: Path, tmp_path: Path) -> None:
    corpus = _jsonl(tmp_path / "corpus.jsonl", [{"question": "walk", "answer": "I_WALK"}])

    with pytest.raises(InvalidResults, match=r"holds no example .1 rows with no field 'prompt'"):
        open_case(CaseFiles(outcomes, corpus=corpus))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.csv", "prompt,completion", r"ends in .csv; rows are read from .parquet, .jsonl"),
        ("corpus.jsonl", "{", r"corpus.jsonl:1: not a JSON object"),
        ("corpus.parquet", "prompt", r"corpus.parquet is not Parquet"),
    ],
)
def test_unknown_files_are_refused_by_name(outcomes: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(InvalidResults, match=message):
        open_case(CaseFiles(outcomes, corpus=tmp_path / name))


def test_a_model_directory_without_weights_is_refused_at_once(outcomes: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    with pytest.raises(InvalidRecipe, match=r"has no config\.json"):
        open_case(CaseFiles(outcomes, model=tmp_path / "model"))


def test_weights_that_do_not_load_are_told_at_first_use(outcomes: Path, tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"no weights")
    case = open_case(CaseFiles(outcomes, model=model))
    assert case.model is not None

    with pytest.raises(CorruptArtifact, match="does not load"):
        case.model.generate(["walk"], max_new_tokens=1)


def test_a_folder_that_is_no_case_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidResults, match="is no case folder"):
        open_case(tmp_path)


def test_a_template_without_a_prompt_is_refused(outcomes: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"holds no \{prompt\}"):
        open_case(CaseFiles(outcomes, template="Question:"))


def test_the_two_samples_do_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    def ids(case: Case) -> list[str]:
        return [row.item.item_id for sample in case.samples for row in sample.failed]

    assert ids(open_case(_folder(tmp_path / "a"))) == ids(open_case(_folder(tmp_path / "b")))
