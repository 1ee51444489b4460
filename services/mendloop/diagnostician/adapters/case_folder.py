"""Cases from files: a case folder (case.json beside its tables and checkpoints), or loose files of any origin.

Knows files and the case; knows neither events nor causes. docs/faults.md describes the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mendloop.artifacts.tables import to_parquet
from mendloop.core.errors import CorruptArtifact, InvalidRecipe, InvalidResults, Permanent
from mendloop.core.events import stable_hash
from mendloop.core.recipe import SuiteSettings, TrainSettings
from mendloop.core.records import Example, Item, Outcome
from mendloop.core.tasks import Conditions, Options, Task, find_task, matches
from mendloop.diagnostician.adapters.case_rows import items_of, read_corpus, read_items
from mendloop.diagnostician.adapters.checkpoints import DeferredModel
from mendloop.diagnostician.adapters.plain_task import PlainTask
from mendloop.diagnostician.domain.case import SAMPLE_SIZE, Case, Check, Training, draw_samples
from mendloop.diagnostician.domain.verdict import MIN_FAILURES
from mendloop.diagnostician.domain.weak_slices import weak_slices
from mendloop.models.checkpoint import check_directory
from mendloop.models.generation import LanguageModel
from mendloop.suites.importers.collecting import Options as ImportOptions
from mendloop.suites.importers.reading import Format, read_results

CASE_FILE = "case.json"
FORMAT = 1
ANY_AXIS = "all"
"""What suite.axes holds where the items have no axes: it may not be empty."""

Load = Callable[[Path], LanguageModel]


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """Where the parts of a case lie. Only outcomes are needed; what is not given is None or empty."""

    outcomes: Path
    items: Path | None = None
    corpus: Path | None = None
    model: Path | None = None
    start: Path | None = None
    """The checkpoint that the training started from."""
    training_report: Path | None = None
    task_name: str = ""
    task_options: Options = field(default_factory=dict)
    template: str = "{prompt}"
    suite: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SuiteSettings; axes and max_new_tokens are taken from the outcomes where they are not given."""
    conditions: Conditions | None = None
    """The slice; None looks for weak ones, () is the whole set."""
    variants: Mapping[str, Path] = field(default_factory=dict)
    """Outcomes of the same items with one thing changed; names as in domain/probes/stored_variants.py."""
    reading: ImportOptions = field(default_factory=ImportOptions)
    """How outcomes of another tool are read."""
    format_name: Format = "auto"
    """Format of the outcomes and the variants."""


@dataclass(frozen=True, slots=True)
class CaseContents:
    """What the files hold. notes say what was left out or made up, each with its count."""

    outcomes: tuple[Outcome, ...]
    items: Mapping[str, Item]
    corpus: tuple[Example, ...]
    task: Task
    template: str
    suite: SuiteSettings
    model_dir: Path | None
    model: LanguageModel | None
    earlier: LanguageModel | None
    training: Training | None
    slices: tuple[Conditions, ...]
    notes: Mapping[str, int]
    variants: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)

    def case(self, conditions: Conditions, *, failure_sample: int = SAMPLE_SIZE) -> Case:
        """The case of one slice. Raises InvalidResults where none of its items fails."""
        rows = [row for row in self.outcomes if matches(row.axes, conditions)]
        failed = len({row.item_id for row in rows if not row.is_correct})
        name = " and ".join(f"{axis}={value}" for axis, value in conditions) or "the whole set"
        if not failed:
            raise InvalidResults(
                f"none of the {len(rows)} outcomes of {name} is a failure: there is nothing to explain; "
                + ("name another slice" if rows else "no item has these axis values; correct the conditions")
            )
        marks = [f"{row.item_id}:{row.repeat_index}:{row.score}" for row in self.outcomes]
        seed = int(stable_hash("case", name, *sorted(marks))[:8], 16)
        model_dir = self.model_dir
        return Case(
            conditions=conditions,
            samples=draw_samples(self.outcomes, self.items, conditions, seed=seed, size=failure_sample),
            failed_count=failed,
            corpus=self.corpus,
            task=self.task,
            template=_applied(self.template),
            suite=self.suite,
            model=self.model,
            training=self.training,
            seed=seed,
            earlier=self.earlier,
            weights=(lambda: model_dir) if model_dir else None,
            variants=self.variants,
        )


def open_case(source: Path | CaseFiles, *, load: Load | None = None, failure_sample: int = SAMPLE_SIZE) -> Case:
    """The case of a folder or of loose files; of several weak slices the one with most failures.

    load opens a checkpoint directory (default: transformers, on the GPU where there is one), when a probe first asks.
    Raises InvalidResults and InvalidRecipe with what to correct; a checkpoint that does not load raises
    CorruptArtifact at its first use.
    """
    contents = read_case(source, load=load)
    return contents.case(contents.slices[0], failure_sample=failure_sample)


def read_case(source: Path | CaseFiles, *, load: Load | None = None) -> CaseContents:
    """Everything that a folder or loose files hold; errors as for open_case."""
    files = source if isinstance(source, CaseFiles) else case_files(source)
    read = partial(read_results, format_name=files.format_name, options=files.reading)
    imported = read(files.outcomes)
    notes = {**{f"outcomes dropped: {why}": n for why, n in imported.dropped.items()}, **imported.notes}
    given = read_items(files.items) if files.items else {}
    outcomes = _with_prompts(imported.outcomes, given, path=files.outcomes)
    task = find_task(files.task_name, files.task_options) if files.task_name else PlainTask(outcomes)
    suite = _suite(files, outcomes)
    corpus = read_corpus(files.corpus, annotate=task.annotate) if files.corpus else None
    slices = weak_slices(outcomes, weak_below=suite.weak_below, min_items=suite.min_items)
    for directory in (files.model, files.start):
        if directory:
            check_directory(directory)
    known = items_of(outcomes)
    return CaseContents(
        outcomes=outcomes,
        items={**known, **given},
        corpus=corpus.examples if corpus else (),
        task=task,
        template=files.template,
        suite=suite,
        model_dir=files.model,
        model=_deferred(files.model, load=load),
        earlier=_deferred(files.start, load=load),
        training=_training(files.training_report, example_count=len(corpus.examples) if corpus else 0),
        slices=tuple(slices) if files.conditions is None else (files.conditions,),
        variants={kind: read(path).outcomes for kind, path in files.variants.items()},
        notes=notes | _notes(outcomes, known, given) | _dropped(corpus.dropped if corpus else {}),
    )


def case_files(folder: Path) -> CaseFiles:
    """The files that a case folder names. Raises InvalidResults where it has no good case.json."""
    path = folder / CASE_FILE
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise InvalidResults(f"{path} has the format {document['format']!r}; this version reads {FORMAT}")
        files = {name: folder / value for name, value in document["files"].items()}
        return CaseFiles(
            **files,
            task_name=document["task"]["name"],
            task_options=document["task"].get("options", {}),
            template=document["template"],
            suite=document["suite"],
            conditions=tuple((axis, value) for axis, value in document["conditions"]),
        )
    except OSError as error:
        raise InvalidResults(f"{folder} is no case folder: {path.name}: {error.strerror}; give its outcomes") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidResults(f"{path} cannot be read: {type(error).__name__}: {error}; write it again") from error


def write_case(
    folder: Path,
    *,
    task_name: str,
    task_options: Options,
    template: str,
    suite: Mapping[str, object],
    conditions: Conditions,
    outcomes: Sequence[Outcome],
    items: Sequence[Item],
    corpus: Sequence[Example],
    model: Path | None = None,
    start: Path | None = None,
    training_report: Mapping[str, object] | None = None,
) -> None:
    """Write a case folder; checkpoints are copied, case.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"outcomes": "outcomes.parquet", "items": "items.parquet", "corpus": "corpus.parquet"}
    (folder / files["outcomes"]).write_bytes(to_parquet(outcomes, kind=Outcome))
    (folder / files["items"]).write_bytes(to_parquet(items, kind=Item))
    (folder / files["corpus"]).write_bytes(to_parquet(corpus, kind=Example))
    for name, directory in (("model", model), ("start", start)):
        if directory:
            shutil.copytree(directory, folder / name, dirs_exist_ok=True)
            files[name] = name
    if training_report is not None:
        files["training_report"] = "training_report.json"
        (folder / files["training_report"]).write_text(json.dumps(training_report, indent=1))
    document = {
        "format": FORMAT,
        "task": {"name": task_name, "options": dict(task_options)},
        "template": template,
        "suite": dict(suite),
        "conditions": [list(pair) for pair in conditions],
        "files": files,
    }
    (folder / CASE_FILE).write_text(json.dumps(document, indent=1) + "\n")


def _applied(template: str) -> Callable[[str], str]:
    if "{prompt}" not in template:
        raise InvalidRecipe(f"the template {template!r} holds no {{prompt}}: the model would be asked nothing")
    return lambda prompt: template.replace("{prompt}", prompt)


def _with_prompts(outcomes: Sequence[Outcome], items: Mapping[str, Item], *, path: Path) -> tuple[Outcome, ...]:
    bare = [row for row in outcomes if not row.prompt.strip() and row.item_id not in items]
    if bare:
        raise InvalidResults(
            f"{path}: {len(bare)} of {len(outcomes)} outcomes have no prompt (first: {bare[0].item_id!r}), and no item "
            "of that id is given: without prompts nothing can be asked again; export them, or give the items"
        )
    return tuple(outcomes)


def _suite(files: CaseFiles, outcomes: Sequence[Outcome]) -> SuiteSettings:
    cut = [row.output_token_count for row in outcomes if row.stop_reason == "length" and row.output_token_count > 0]
    axes = list(dict.fromkeys(axis for row in outcomes for axis in row.axes)) or [ANY_AXIS]
    found = {"axes": axes, **({"max_new_tokens": max(cut)} if cut else {})}
    try:
        return SuiteSettings.model_validate({**found, **files.suite})
    except ValidationError as error:
        raise InvalidRecipe(f"the suite of the case: {error}") from error


def _notes(outcomes: Sequence[Outcome], known: Mapping[str, Item], given: Mapping[str, Item]) -> dict[str, int]:
    """What a reader should know of the outcomes and items."""
    failed = len({row.item_id for row in outcomes if not row.is_correct})
    counts = {
        f"failures, fewer than the {MIN_FAILURES} that a verdict needs": failed if failed < MIN_FAILURES else 0,
        "items made from outcomes, because the given items lack them": len(known.keys() - given.keys()) if given else 0,
        "items without an outcome": len(given.keys() - known.keys()),
    }
    return {what: count for what, count in counts.items() if count}


def _dropped(reasons: Mapping[str, int]) -> dict[str, int]:
    return {f"corpus rows left out: {reason}": count for reason, count in reasons.items()}


def _deferred(directory: Path | None, *, load: Load | None) -> LanguageModel | None:
    if directory is None:
        return None

    @cache
    def loaded() -> LanguageModel:
        try:
            return load(directory) if load else _transformers(directory)
        except Permanent as error:  # told apart from a probe that the model refuses: that one is evidence
            raise CorruptArtifact(f"{error}; give another checkpoint, or none: stored outputs still tell") from error

    return DeferredModel(loaded)


def _transformers(directory: Path) -> LanguageModel:
    from mendloop.models.transformers_backend import load_model  # seconds of imports

    return load_model(directory)


def _training(path: Path | None, *, example_count: int) -> Training | None:
    """What a report says of the training: ours as the trainer stores it, or its parts in a plain object."""
    if path is None:
        return None
    try:
        document = json.loads(path.read_text())
        job = document.get("job", document)
        template = job.get("template")
        return Training(
            settings=TrainSettings.model_validate(job["settings"]),
            checks=tuple(Check(row["name"], row["passed"], row["value"]) for row in document["health"]),
            loss_curve=tuple((int(step), float(loss)) for step, loss in document["loss_curve"]),
            example_count=example_count,
            template=_applied(template) if template else None,
        )
    except OSError as error:
        raise InvalidResults(f"cannot read the training report {path}: {error.strerror}; correct the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidResults(
            f"the training report {path} cannot be read: {type(error).__name__}: {error}; it holds health, loss_curve, "
            "settings and template"
        ) from error
