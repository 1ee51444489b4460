"""An lm-evaluation-harness task through our path scores what lm_eval itself scores, item by item."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import event, recipe

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import Task, find_task
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.handlers import Ports, on_checkpoint_ready, on_evaluation_shard, on_shard_scored
from mendloop.models.generation import Generation, TokenLogprobs
from mendloop.v1 import checkpoint_pb2, common_pb2

lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")
BBH = Path(__file__).parents[4] / "shared" / "data" / "bbh"
NOWHERE = Artifact("file:///nowhere", "0" * 64, 0, "application/octet-stream")
ROWS = [
    {
        "question": f"{a} + {b} =",
        "answer": str(a + b),
        "operation": "plus" if a else "nothing",
        "digits": [str(a), str(b)],
    }
    for a in range(8)
    for b in range(8)
]


class Recorded:
    """A LanguageModel that answers each prompt as the function says and keeps what was asked."""

    uses_gpu = False

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer
        self.prompts: list[str] = []
        self.stops: set[tuple[str, ...]] = set()

    def generate(self, prompts: Any, *, max_new_tokens: int, stop: Any = ()) -> list[Generation]:
        self.prompts += prompts
        self.stops.add(tuple(stop))
        return [Generation(self._answer(prompt), 1, 1, "eos") for prompt in prompts]

    def logprobs(self, prompts: Any, completions: Any) -> list[TokenLogprobs]:
        return [TokenLogprobs((-1.0,), -1.0) for _ in prompts]

    def load(self, checkpoint: Artifact) -> Recorded:
        return self


def _answer(prompt: str) -> str:
    """Right, wrong, badly formatted or empty, by the last question of the prompt."""
    left, _, right, *_ = prompt.split("Q:")[-1].split()
    kinds = (f"The answer is {int(left) + int(right)}.", f"The answer is {left}.", str(int(left) + int(right)), "")
    return kinds[(int(left) + int(right)) % 4]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    return _written(tmp_path, ROWS)


@pytest.mark.parametrize("shots", [0, 2])
def test_every_item_gets_lm_evals_own_prompt_and_score(tmp_path: Path, shots: int) -> None:
    made = _written(tmp_path, ROWS, num_fewshot=shots)
    theirs = _lm_eval_samples(tmp_path, _answer)

    ours, model = _through_the_evaluator(tmp_path / "stores", made, _answer)

    assert {row.prompt: row.score for row in ours} == {prompt: score for prompt, (score, _) in theirs.items()}
    assert len(ours) == len(ROWS)
    assert 0 < sum(row.score for row in ours) < len(ours)
    assert model.stops == {("\n", "Q:")}
    assert sorted(model.prompts) == sorted(theirs)


def test_the_extraction_says_whether_the_filter_found_an_answer(options: dict[str, object]) -> None:
    task = _task(options)
    (one, *_) = _items(task)

    assert task.score(one, f"The answer is {one.target}.").extraction == "filter:get-answer"
    assert task.score(one, one.target) == task.score(one, "") == type(task.score(one, ""))(0.0, "none")


def test_the_second_scorer_finds_a_right_answer_in_other_forms(options: dict[str, object]) -> None:
    task = _task(options)
    (one, *_) = _items(task)

    assert task.rescore(one, one.target).value == 1.0
    assert task.rescore(one, f"Let us see.\n{one.target}.").extraction == "last_line"
    assert task.rescore(one, f"So the Answer is: {one.target}").extraction == "after_marker"
    assert task.rescore(one, "no idea").value == 0.0


def test_items_carry_their_document_and_axes_and_are_drawn_by_the_seed(options: dict[str, object]) -> None:
    task = _task({**options, "axes": ["operation", "digits"]})

    items = _items(task)

    one = next(i for i in items if json.loads(i.document)["question"] == "3 + 4 =")
    assert one.axes == {
        "length": ("<=16 words",),
        "answer_length": ("<=4 words",),
        "operation": ("plus",),
        "digits": ("3", "4"),
    }
    assert [i.split for i in items] == ["search"] * 40 + ["confirm"] * 20 + ["sealed"] * 4
    assert items == _items(_task({**options, "axes": ["operation", "digits"]}))
    assert items != task.items(counts={"search": 40, "confirm": 20, "sealed": 4}, seed=1)


def test_scores_need_nothing_but_the_item(options: dict[str, object]) -> None:
    items = _items(_task(options))

    replica = _task(options)

    assert replica.score(items[0], f"The answer is {items[0].target}.").value == 1.0


def test_changed_data_under_the_same_name_and_time_is_read_afresh(tmp_path: Path) -> None:
    made = _written(tmp_path, ROWS)
    data = tmp_path / "test.jsonl"
    stamp = data.stat()
    before = _items(_task(made))
    _write_rows(data, [{**row, "answer": "x" * len(row["answer"])} for row in ROWS])
    os.utime(data, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    after = _items(_task(made))

    assert {i.target for i in before}.isdisjoint({i.target for i in after})


def test_a_prompt_that_repeats_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = _task(_written(tmp_path, [*ROWS, *ROWS[:5]]))

    with caplog.at_level(logging.WARNING):
        items = _items(task)

    assert len({i.prompt for i in items}) == len(items) == len(ROWS)
    assert [r.__dict__["count"] for r in caplog.records if r.message == "documents left out"] == [5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"generation_kwargs": {"until": ["\n"], "do_sample": True}}, "samples"),
        ({"repeats": 3}, "repeats: 3"),
        ({"test_split": "nowhere"}, "cannot build the task"),
    ],
)
def test_a_task_that_cannot_be_measured_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said):
        _task(_written(tmp_path, ROWS, **change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "/nowhere.yaml"}, "no file or folder is there"),
        ({"task": "unknown"}, "the tasks in .* are sums"),
        ({"filter": "unknown"}, "the task has get-answer"),
        ({"shots": 3}, "shots"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said):
        _task({**options, **change})


def test_more_items_than_documents_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRecipe, match="64 different documents and 100 are asked for"):
        _task(options).items(counts={"search": 60, "confirm": 40}, seed=0)


def test_an_item_without_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"document 64 .* has no target"):
        _task(_written(tmp_path, [*ROWS, {**ROWS[0], "question": "9 + 9 =", "answer": ""}])).items(
            counts={"search": 65}, seed=0
        )


def test_a_corpus_is_read_from_jsonl(options: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    _write_rows(file, [{"q": "20 + 20 =", "a": "40"}])

    (one,) = _task(options).corpus({"path": str(file), "prompt": "q", "completion": "a"})

    assert (one.prompt, one.completion, one.source) == ("20 + 20 =", "40", "train.jsonl")
    assert one.axes == {"length": ("<=4 words",)}


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "train.jsonl:2: not JSON"), ('{"prompt": "x"}', "train.jsonl:2: field 'completion' is None")],
)
def test_a_bad_line_of_a_corpus_is_named(options: dict[str, object], tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "p", "completion": "c"}\n' + line)

    with pytest.raises(InvalidRecipe, match=said):
        _task(options).corpus({"path": str(file)})


def test_nothing_is_taught_and_nothing_is_verified(options: dict[str, object]) -> None:
    task = _task(options)

    assert list(task.teach((("operation", "plus"),), seed=0)) == []
    assert not task.verify("1 + 1 =", "2")


@pytest.mark.skipif(not BBH.is_dir(), reason="the BIG-Bench-Hard files are not beside the repository")
@pytest.mark.parametrize("name", ["word_sorting", "boolean_expressions", "date_understanding"])
@pytest.mark.parametrize("style", ["prediction_answer_only", "prediction_chain_of_thought"])
def test_recorded_answers_of_a_real_model_score_as_in_lm_eval(tmp_path: Path, name: str, style: str) -> None:
    rows = [json.loads(line) for line in (BBH / f"{name}.jsonl").read_text().splitlines()]
    said = {f"Q: {row['input']}\nA:": str(row[style]) for row in rows}
    filters = [
        {
            "name": "after-marker",
            "filter": [
                {"function": "regex", "regex_pattern": "(?:So the answer is |^)((?!.*So the answer is).*?)\\.?$"},
                {"function": "take_first"},
            ],
        }
    ]
    made = _written(tmp_path, rows, doc_to_text="Q: {{input}}\nA:", doc_to_target="{{target}}", filter_list=filters)
    theirs = _lm_eval_samples(tmp_path, said.__getitem__)

    ours, _ = _through_the_evaluator(tmp_path / "stores", made, said.__getitem__)

    assert {row.prompt: row.score for row in ours} == {prompt: score for prompt, (score, _) in theirs.items()}
    assert sum(row.score for row in ours) > len(ours) / 4


def _written(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> dict[str, object]:
    """A task of lm_eval over local JSONL, and the options that name it."""
    _write_rows(folder / "test.jsonl", rows)
    _write_rows(
        folder / "shots.jsonl", [{**ROWS[0], "question": f"{n} + 50 =", "answer": str(n + 50)} for n in range(6)]
    )
    config = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "test.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "Q: {{question}}\nA:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n", "Q:"], "do_sample": False},
        "filter_list": [
            {
                "name": "get-answer",
                "filter": [
                    {"function": "regex", "regex_pattern": "The answer is (\\S+?)\\.?$"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }
    if changes.get("num_fewshot"):
        config["dataset_kwargs"]["data_files"]["shots"] = "shots.jsonl"
        config["fewshot_split"] = "shots"
    (folder / "sums.yaml").write_text(yaml.safe_dump(config))
    return {"path": str(folder), "task": "sums"}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _task(options: Mapping[str, object]) -> Task:
    return find_task("lm-eval", options)


def _items(task: Task) -> list[Item]:
    return task.items(counts={"search": 40, "confirm": 20, "sealed": 4}, seed=0)


def _lm_eval_samples(folder: Path, answer: Callable[[str], str]) -> dict[str, tuple[float, str]]:
    """lm_eval's own evaluation: (score, filtered answer) by prompt."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    class Fixed(LM):
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return [answer(request.args[0]) for request in requests]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError("no task here asks for it")

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError("no task here asks for it")

    config = yaml.safe_load((folder / "sums.yaml").read_text())
    files = {split: str(folder / name) for split, name in config["dataset_kwargs"]["data_files"].items()}
    config["dataset_kwargs"] = {"data_files": files, "cache_dir": str(folder / "cache")}
    found = simple_evaluate(
        model=Fixed(),
        tasks=[config],
        task_manager=TaskManager(include_defaults=False),  # thousands of files that no test asks for
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = found["samples"]["sums"]
    return {str(next(iter(s["arguments"]))[0]): (float(s["exact_match"]), str(s["filtered_resps"][0])) for s in samples}


def _through_the_evaluator(
    root: Path, options: dict[str, object], answer: Callable[[str], str]
) -> tuple[list[Outcome], Recorded]:
    """All documents as search and confirm items in two shards, from CheckpointReady to EvalCompleted."""
    store, sealed_store, model = ArtifactStore(root / "open"), ArtifactStore(root / "sealed"), Recorded(answer)
    count = len((Path(str(options["path"])) / "test.jsonl").read_text().splitlines())
    confirm = count // 3
    suite = {"axes": ["length"], "search": count - confirm, "confirm": confirm, "sealed": 0, "options": options}
    made = recipe(task="lm-eval", template="{prompt}", suite=suite)
    items = _task(options).items(counts={"search": count - confirm, "confirm": confirm}, seed=0)
    stored = put_rows(store, items, kind=Item)
    spec = RunSpec(made, NOWHERE, NOWHERE, None, stored, None, NOWHERE)
    ports = Ports(
        store, sealed_store, StoredOutcomes(store), StoredOutcomes(sealed_store), model, Telemetry("evaluator")
    )
    ready = checkpoint_pb2.CheckpointReady(
        position=common_pb2.RunPosition(run_id="r"),
        checkpoint=artifact_ref(NOWHERE),
        kind=checkpoint_pb2.CHECKPOINT_KIND_BASE,
        run_spec=artifact_ref(spec.store(store)),
    )
    shards = [emit.message for emit in on_checkpoint_ready(event(ready), ports=ports)]
    scored = [emit.message for shard in shards for emit in on_evaluation_shard(event(shard), ports=ports)]
    (completed,) = [emit.message for one in scored for emit in on_shard_scored(event(one), ports=ports)]
    whole = ports.outcomes.find(completed.evaluation_id, "all")
    assert whole is not None
    assert whole.outcomes == artifact_of(completed.outcomes)
    return ports.outcomes.rows(whole), model
