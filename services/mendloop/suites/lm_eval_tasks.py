"""Finds a task of lm-evaluation-harness, on disk or in lm_eval's own list, and loads it with its data.

Knows lm_eval; knows neither items nor models.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mendloop.core.errors import InvalidRecipe
from mendloop.steps.checkers import DESCRIPTION, StepNames

try:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml  # the public loader downloads before data files can be changed
except ImportError as error:
    raise ImportError("the task family lm-eval needs lm_eval: uv pip install 'mendloop[lm-eval]'") from error

log = logging.getLogger(__name__)

_STRUCTURE = ("tag", "group", "task_list")
TYPES = ("generate_until", "loglikelihood", "multiple_choice", "loglikelihood_rolling")


class LmEvalOptions(BaseModel):
    """suite.options of the family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = Field(
        None,
        description="Task YAML, or a folder of them; relative to where the services run. Empty: lm_eval's own tasks,"
        " whose data come from the hub.",
    )
    task: str = Field("", description="Name of the task; needed where path is a folder or empty.")
    metric: str = Field("", description="Metric that is the score; empty takes the task's first.")
    filter: str = Field("", description="Filter pipeline whose output is scored; empty takes the task's first.")
    axes: list[str] = Field(default_factory=list, description="Document fields that become axes.")
    steps: StepNames = Field(default_factory=list, description=DESCRIPTION)
    right_below: float = Field(
        0.0,
        ge=0,
        description="Perplexity tasks: a document whose metric is at most this counts as right; 0: none does.",
    )


def load_task(options: LmEvalOptions) -> Any:
    """The task with its data, read afresh: lm_eval's dataset cache goes by path and time, not by content.

    Raises InvalidRecipe where the options name no task, or one that cannot be measured.
    """
    path = _yaml_path(options)
    try:
        config = load_yaml(path)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise InvalidRecipe(f"suite.options.path {path} is no lm_eval task: {error}") from error
    for key in _STRUCTURE:
        config.pop(key, None)
    kind = config.pop("class", None)
    with TemporaryDirectory(prefix="mendloop-lm-eval-") as cached:
        given = config.get("dataset_kwargs") or {}
        if "data_files" in given:
            files = _located(given["data_files"], folder=path.parent)
            config["dataset_kwargs"] = {**given, "data_files": files, "cache_dir": cached, "keep_in_memory": True}
        try:
            task = (kind or ConfigurableTask)(config=config)
        except Exception as error:  # lm_eval raises whatever its configuration, code and data lead to
            raise InvalidRecipe(f"lm_eval cannot build the task {path}: {type(error).__name__}: {error}") from error
    if task.OUTPUT_TYPE not in TYPES:
        raise InvalidRecipe(f"task {path} is of type {task.OUTPUT_TYPE!r}; measured are {', '.join(TYPES)}")
    if task.config.repeats != 1:
        raise InvalidRecipe(
            f"task {task.config.task!r} has repeats: {task.config.repeats}; set 1 (suites repeat, not tasks)"
        )
    return task


def stop_strings(task: Any) -> tuple[str, ...]:
    """What ends an output of the task; nothing where it does not generate. Raises InvalidRecipe where it samples."""
    if task.OUTPUT_TYPE != "generate_until":
        return ()
    settings = task.config.generation_kwargs or {}
    if settings.get("do_sample") or settings.get("temperature"):
        raise InvalidRecipe(f"task {task.config.task!r} samples ({settings}); outputs are greedy: set do_sample: false")
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


def named_filter(task: Any, name: str) -> Any:
    """The task's filter pipeline of this name, or its first."""
    pipelines = {pipeline.name: pipeline for pipeline in task._filters}
    if name and name not in pipelines:
        raise InvalidRecipe(f"suite.options.filter is {name!r}; the task has {', '.join(pipelines)}")
    return pipelines[name] if name else next(iter(pipelines.values()))


def _yaml_path(options: LmEvalOptions) -> Path:
    if options.path is None:
        entry = _own_tasks().get(options.task)
        if entry is None or entry.yaml_path is None:
            raise InvalidRecipe(
                f"suite.options.task is {options.task!r}, no single task of lm_eval; `lm_eval ls tasks` lists them,"
                " or name a YAML file with suite.options.path"
            )
        return Path(entry.yaml_path)
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


@cache
def _own_tasks() -> Mapping[str, Any]:
    """lm_eval's own list; reading its 14,683 files takes seconds (25 s on two busy cores)."""
    return dict(TaskManager().task_index)


def _located(files: Any, *, folder: Path) -> Any:
    """Data files beside the YAML by their own path, so that a task works from every working directory."""
    if isinstance(files, Mapping):
        return {split: _located(value, folder=folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_located(value, folder=folder) for value in files]
    beside = folder / str(files)
    return str(beside.resolve()) if beside.exists() else str(files)
