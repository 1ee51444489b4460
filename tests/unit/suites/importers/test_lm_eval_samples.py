"""Samples that lm-evaluation-harness really writes are read with its own scores, for each kind of request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mendloop.core.errors import InvalidResults
from mendloop.suites.importers.collecting import Options
from mendloop.suites.importers.reading import format_of, read_results

lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")

ROWS = [
    {"q": f"{a} + {b} =", "a": str(a + b), "c": [str(a + b), "9", "x"], "op": "plus", "page": a // 2}
    for a in range(4)
    for b in range(2)
]
GENERATES = {
    "output_type": "generate_until",
    "doc_to_target": "{{a}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}],
}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "made_two": {
        **GENERATES,
        "filter_list": [
            {
                "name": "number",
                "filter": [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "take_first"}],
            },
            {"name": "whole", "filter": [{"function": "take_first"}]},
        ],
    },
    "made_repeats": {**GENERATES, "repeats": 3},
    "chosen": {
        "output_type": "multiple_choice",
        "doc_to_target": 0,
        "doc_to_choice": "c",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "continued": {
        "output_type": "loglikelihood",
        "doc_to_target": " {{a}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "rolled": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{q}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lm_eval --log_samples --output_path` leaves behind: results and a samples file a task."""
    import tiny_models
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    home = tmp_path_factory.mktemp("lm_eval")
    data = home / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    for name, part in TASKS.items():
        common = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(home / "cache")},
            "test_split": "test",
            "doc_to_text": "Q: {{q}}\nA:",
        }
        (home / f"{name}.yaml").write_text(yaml.safe_dump({**common, **part}))
    tokenizer = tiny_models.byte_pair_tokenizer()
    model = HFLM(
        pretrained=tiny_models.tiny_llama(len(tokenizer), context=128),
        tokenizer=tokenizer,
        device="cpu",
        max_length=128,
    )
    manager = TaskManager(include_path=str(home), include_defaults=False)
    results = lm_eval.simple_evaluate(
        model, tasks=list(TASKS), task_manager=manager, log_samples=True, bootstrap_iters=0
    )
    samples = results.pop("samples")
    tracker = EvaluationTracker(output_path=str(home / "out"))
    tracker.save_results_aggregated(results=results, samples=samples)
    for name in TASKS:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    return home / "out"


def _file(folder: Path, task: str) -> Path:
    (found,) = folder.rglob(f"samples_{task}_*.jsonl")
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_generated_text_is_read_with_the_first_filters_score(folder: Path) -> None:
    file = _file(folder, "made_two")

    found = read_results(file)

    lines = [line for line in _lines(file) if line["filter"] == "number"]
    assert format_of(file) == "lm-eval"
    assert [row.item_id for row in found.outcomes] == [f"made_two/{line['doc_id']}" for line in lines]
    assert [row.score for row in found.outcomes] == [line["exact_match"] for line in lines]
    assert [row.output for row in found.outcomes] == [line["resps"][0][0] for line in lines]
    assert {row.prompt for row in found.outcomes} == {f"Q: {row['q']}\nA:" for row in ROWS}
    assert found.notes == {"line of filter 'whole' left out ('number' is read)": len(ROWS)}
    for row, line in zip(found.outcomes, lines, strict=True):
        assert (row.extraction == "none") == (line["filtered_resps"] == ["[invalid]"])


def test_another_filter_can_be_chosen(folder: Path) -> None:
    found = read_results(_file(folder, "made_two"), options=Options(filter="whole"))

    assert {row.extraction for row in found.outcomes} == {"filter:whole"}


def test_repeats_without_scores_of_their_own_are_told(folder: Path) -> None:
    found = read_results(_file(folder, "made_repeats"))

    assert len(found.outcomes) == len(ROWS)
    assert found.notes == {"further repeat without a score of its own": 2 * len(ROWS)}


def test_multiple_choice_gives_the_likeliest_option_and_the_golds_logprob(folder: Path) -> None:
    file = _file(folder, "chosen")

    found = read_results(file)

    for row, line, document in zip(found.outcomes, _lines(file), ROWS, strict=True):
        values = [float(answer[0]) for answer in line["filtered_resps"]]
        assert row.output == document["c"][values.index(max(values))]
        assert (row.target, row.target_logprob) == (document["c"][0], values[0])
        assert row.score == line["acc"] == float(row.output == row.target)
    assert 0 < found.accuracy < 1


def test_another_metric_can_be_chosen(folder: Path) -> None:
    file = _file(folder, "chosen")

    found = read_results(file, options=Options(metric="acc_norm"))

    assert [row.score for row in found.outcomes] == [line["acc_norm"] for line in _lines(file)]


def test_a_loglikelihood_is_scored_by_greedy_agreement_not_by_perplexity(folder: Path) -> None:
    file = _file(folder, "continued")

    found = read_results(file)

    assert [row.score for row in found.outcomes] == [float(line["acc"]) for line in _lines(file)]
    assert all(math.isfinite(row.target_logprob) for row in found.outcomes)


def test_a_perplexity_is_no_score(folder: Path) -> None:
    with pytest.raises(InvalidResults, match=r"no metric of \['word_perplexity'\] is a score of 0\.\.1"):
        read_results(_file(folder, "rolled"))


def test_document_fields_become_axes_and_groups(folder: Path) -> None:
    found = read_results(_file(folder, "chosen"), options=Options(axes=("op",), group="page"))

    assert found.outcomes[0].axes == {"task": ("chosen",), "op": ("plus",), "group": ("0",)}
    with pytest.raises(InvalidResults, match="field 'hue' is asked for; there are q, a, c, op, page"):
        read_results(_file(folder, "chosen"), options=Options(axes=("hue",)))


def test_a_folder_is_one_evaluation_of_several_tasks(folder: Path) -> None:
    found = read_results(folder, options=Options(drops_bad_rows=True))

    assert found.item_count == 4 * len(ROWS)
    assert found.dropped == {"no score": len(ROWS)}
    assert any(note.startswith("file that holds no results left out: results_") for note in found.notes)
