"""A generate_until task of lm-evaluation-harness as a task family: its prompts, its filters, its scores.

Knows lm_eval; knows no model. Every replica needs the task's files; documents travel in the items.
"""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score, Split, fingerprint
from mendloop.core.tasks import Conditions, Options
from mendloop.suites.jsonl import read_examples

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml  # the public loader downloads before data files can be changed
except ImportError as error:
    raise ImportError("the task family lm-eval needs lm_eval: uv pip install 'mendloop[lm-eval]'") from error

log = logging.getLogger(__name__)

FEWSHOT_SEED = 1234
"""lm_eval's own default, so that few-shot prompts are the ones that it makes."""
WORD_BOUNDS = (4, 16, 64, 256)
NO_MATCH = "[invalid]"
"""What lm_eval's regex filters return where nothing matches."""
_STRUCTURE = ("tag", "group", "task_list", "class")
_MARKER = re.compile(r".*(?:answer is|answer:|####)", re.IGNORECASE | re.DOTALL)


class LmEvalOptions(BaseModel):
    """suite.options of the family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="Task YAML, or a folder of them; relative to where the services run.")
    task: str = Field("", description="Name of the task; needed where path is a folder.")
    metric: str = Field("", description="Metric that is the score; empty takes the task's first.")
    filter: str = Field("", description="Filter pipeline whose output is scored; empty takes the task's first.")
    axes: list[str] = Field(default_factory=list, description="Document fields that become axes.")


class LmEvalTask:
    """One task of lm-evaluation-harness.

    Axes for free: length (words of the question), answer_length (words of the target). A score is the task's own
    metric of one document and must lie in 0..1.
    """

    def __init__(self, options: Options) -> None:
        try:
            self._options = LmEvalOptions.model_validate(dict(options))
        except ValidationError as error:
            raise InvalidRecipe(f"suite.options of task lm-eval: {error}") from error
        self._task = _load(self._options)
        self._metric = self._options.metric or next(iter(self._task.higher_is_better()))
        if not self._task.higher_is_better().get(self._metric, True):
            raise InvalidRecipe(f"metric {self._metric!r} is better when lower; choose another with options.metric")
        self._filter = _named_filter(self._task, self._options.filter)
        self.stop_strings = _stop_strings(self._task)

    def corpus(self, options: Options) -> list[Example]:
        """Examples of a JSONL file: options path, prompt, completion (names of the fields)."""
        return read_examples(options, annotate=self.annotate)

    def pool(self, options: Options) -> list[Example]:
        """Examples of a JSONL file, as for the corpus."""
        return read_examples(options, annotate=self.annotate)

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Documents of the task's test split (else validation), drawn by the seed; each prompt once."""
        documents = self._documents()
        wanted = sum(counts.values())
        if len(documents) < wanted:
            asked = ", ".join(f"suite.{split} {count}" for split, count in counts.items())
            raise InvalidRecipe(
                f"task {self._name!r} has {len(documents)} different documents and {wanted} are asked for ({asked});"
                " ask for fewer"
            )
        random.Random(seed).shuffle(documents)
        drawn = iter(documents)
        return [
            self._item(*next(drawn), split=split)
            for split in ("search", "confirm", "sealed")
            for _ in range(counts.get(split, 0))
        ]

    def annotate(self, prompt: str) -> Axes:
        """Only what any text shows: its length."""
        return {"length": (_word_count(prompt),)}

    def score(self, item: Item, output: str) -> Score:
        """The task's filter and metric on one output. The extraction is the filter's name, or none where it fails."""
        document = json.loads(item.document)
        instance = Instance("generate_until", document, (item.prompt, {}), 0, metadata=(self._name, 0, 1))
        instance.resps = [output]
        self._filter.apply([instance])
        filtered = instance.filtered_resps[self._filter.name]
        results = self._task.process_results(document, [filtered])
        if self._metric not in results:
            raise ValueError(f"the task gives {', '.join(results)}, not {self._metric!r}; correct options.metric")
        extraction = "none" if filtered in (NO_MATCH, [NO_MATCH]) else f"filter:{self._filter.name}"
        return Score(float(results[self._metric]), extraction)

    def rescore(self, item: Item, output: str) -> Score:
        """The target in any case, spacing and punctuation: after "answer is", on the last line, or as the whole."""
        own = self.score(item, output)
        if own.value >= 1:
            return own
        lines = [line for line in output.splitlines() if line.strip()]
        found = {
            "after_marker": _MARKER.sub("", output, count=1) if _MARKER.match(output) else "",
            "last_line": lines[-1] if lines else "",
            "whole": output,
        }
        target = _plain(item.target)
        rule = next((rule for rule, text in found.items() if target and _plain(text) == target), None)
        return Score(1.0, rule) if rule else own

    def verify(self, prompt: str, answer: str) -> bool:
        """No program can tell the answer to any prompt."""
        return False

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Nothing: a benchmark's documents are never taught."""
        return iter(())

    @property
    def _name(self) -> str:
        return str(self._task.config.task)

    def _documents(self) -> list[tuple[int, dict[str, Any], str]]:
        """(index, document, prompt) of every document with a prompt of its own, in the task's order."""
        self._task.set_fewshot_seed(FEWSHOT_SEED)
        seen: set[str] = set()
        documents: list[tuple[int, dict[str, Any], str]] = []
        for index, document in enumerate(self._task.eval_docs):
            prompt = self._task.fewshot_context(
                document, self._task.config.num_fewshot or 0, gen_prefix=self._task.doc_to_prefix(document)
            )
            if fingerprint(prompt) not in seen:
                documents.append((index, document, prompt))
            seen.add(fingerprint(prompt))
        if repeated := len(self._task.eval_docs) - len(documents):
            log.warning("documents left out", extra={"task": self._name, "count": repeated, "reason": "same prompt"})
        return documents

    def _item(self, index: int, document: dict[str, Any], prompt: str, *, split: Split) -> Item:
        place = f"document {index} of task {self._name!r}"
        target = self._target(document)
        if not target:
            raise InvalidRecipe(f"{place} has no target; correct doc_to_target or take the document out")
        try:
            text = json.dumps(document, ensure_ascii=False)
        except TypeError as error:
            raise InvalidRecipe(f"{place} does not fit in JSON: {error}; store such fields as text") from error
        axes = {
            "length": (_word_count(str(self._task.doc_to_text(document))),),
            "answer_length": (_word_count(target),),
            **{field: _axis_values(document, field, place=place) for field in self._options.axes},
        }
        return Item(f"{self._name}/{index}", prompt, target, split, document=text, axes=axes)

    def _target(self, document: dict[str, Any]) -> str:
        gold = self._task.doc_to_target(document)
        if self._task.config.doc_to_choice is not None:
            gold = self._task.doc_to_choice(document)[gold]
        return str(gold[0] if isinstance(gold, list) and gold else "" if isinstance(gold, list) else gold)


def _load(options: LmEvalOptions) -> Any:
    """The task with its data, read afresh: lm_eval's dataset cache goes by path and time, not by content."""
    path = _yaml_path(options)
    try:
        config = load_yaml(path)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise InvalidRecipe(f"suite.options.path {path} is no lm_eval task: {error}") from error
    for key in _STRUCTURE:
        config.pop(key, None)
    if config.get("output_type", "generate_until") != "generate_until":
        raise InvalidRecipe(f"task {path} is of type {config['output_type']!r}; only generate_until is measured")
    with TemporaryDirectory(prefix="mendloop-lm-eval-") as cache:
        given = config.get("dataset_kwargs") or {}
        if "data_files" in given:
            files = _located(given["data_files"], folder=path.parent)
            config["dataset_kwargs"] = {**given, "data_files": files, "cache_dir": cache, "keep_in_memory": True}
        try:
            return ConfigurableTask(config=config)
        except Exception as error:  # lm_eval raises whatever its configuration, code and data lead to
            raise InvalidRecipe(f"lm_eval cannot build the task {path}: {type(error).__name__}: {error}") from error


def _yaml_path(options: LmEvalOptions) -> Path:
    if options.path.is_file():
        return options.path
    if not options.path.is_dir():
        raise InvalidRecipe(f"suite.options.path is {options.path}; no file or folder is there")
    index = TaskManager(include_path=str(options.path), include_defaults=False).task_index
    entry = index.get(options.task)
    if entry is None or entry.yaml_path is None:
        known = ", ".join(sorted(index)) or "none"
        raise InvalidRecipe(f"suite.options.task is {options.task!r}; the tasks in {options.path} are {known}")
    return Path(entry.yaml_path)


def _located(files: Any, *, folder: Path) -> Any:
    """Data files beside the YAML by their own path, so that a task works from every working directory."""
    if isinstance(files, Mapping):
        return {split: _located(value, folder=folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_located(value, folder=folder) for value in files]
    beside = folder / str(files)
    return str(beside.resolve()) if beside.exists() else str(files)


def _stop_strings(task: Any) -> tuple[str, ...]:
    settings = task.config.generation_kwargs or {}
    if settings.get("do_sample") or settings.get("temperature"):
        raise InvalidRecipe(f"task {task.config.task!r} samples ({settings}); outputs are greedy: set do_sample: false")
    if task.config.repeats != 1:
        raise InvalidRecipe(
            f"task {task.config.task!r} has repeats: {task.config.repeats}; greedy outputs repeat: set 1"
        )
    if "max_gen_toks" in settings:
        log.warning(
            "setting ignored",
            extra={
                "setting": "max_gen_toks",
                "value": settings["max_gen_toks"],
                "reason": "suite.max_new_tokens counts",
            },
        )
    until = settings.get("until") or []
    return tuple([until] if isinstance(until, str) else until)


def _named_filter(task: Any, name: str) -> Any:
    pipelines = {pipeline.name: pipeline for pipeline in task._filters}
    if name and name not in pipelines:
        raise InvalidRecipe(f"suite.options.filter is {name!r}; the task has {', '.join(pipelines)}")
    return pipelines[name] if name else next(iter(pipelines.values()))


def _axis_values(document: Mapping[str, Any], field: str, *, place: str) -> tuple[str, ...]:
    if field not in document:
        raise InvalidRecipe(f"{place} has no field {field!r} (suite.options.axes); it has {', '.join(document)}")
    value = document[field]
    return tuple(str(part) for part in value) if isinstance(value, list) else (str(value),)


def _word_count(text: str) -> str:
    count = len(text.split())
    bound = next((bound for bound in WORD_BOUNDS if count <= bound), None)
    return f"<={bound} words" if bound else f">{WORD_BOUNDS[-1]} words"


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s-]", " ", text.casefold()).split())
