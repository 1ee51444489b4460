"""`mend eval`: measures a checkpoint directory and prints what it can and where it is weak. Knows options and words."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mendloop.artifacts.store import ArtifactStore
from mendloop.cli.process import steps_summary
from mendloop.cli.screen import output
from mendloop.core.recipe import Recipe, load_recipe
from mendloop.core.stats import clopper_pearson
from mendloop.core.wire import slice_name
from mendloop.judging.belief import words as judged_words
from mendloop.submission.submit import model_directory

if TYPE_CHECKING:
    from mendloop.cli.measuring import Measured
    from mendloop.evaluator.ports import MeteredModel

GOES_ON = "stopped; the same command goes on from here"


def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint directory, or package:NAME for one that ships.")],
    recipe: Annotated[Path | None, typer.Option(help="Recipe whose suite is measured.")] = None,
    task: Annotated[str, typer.Option(help="Task family, instead of a recipe.")] = "",
    options: Annotated[str, typer.Option(help="With --task: suite.options as JSON.")] = "{}",
    items: Annotated[int, typer.Option(help="With --task: number of items.", min=60)] = 900,
    template: Annotated[str, typer.Option(help="With --task: how a prompt is put to the model.")] = "{prompt}",
    backend: Annotated[str, typer.Option(help="transformers or vllm; default the recipe's.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for outcomes.parquet, evaluation.json and what a resume needs.")] = (
        Path("mend-eval")
    ),
) -> None:
    """Measure a checkpoint without services: accuracy with its interval, weak slices, outcomes as Parquet."""
    from mendloop.cli.measuring import recipe_of_task, write_results

    if (recipe is None) == (not task):
        raise typer.BadParameter("give either --recipe or --task")
    if backend not in ("", "transformers", "vllm"):
        raise typer.BadParameter(f"--backend {backend!r} is none; choose transformers or vllm")
    plan = (
        load_recipe(recipe)
        if recipe is not None
        else recipe_of_task(task, options=_options(options), item_count=items, template=template)
    )
    if backend:
        plan = Recipe.model_validate({**plan.model_dump(), "suite": {**plan.suite.model_dump(), "backend": backend}})
    out.mkdir(parents=True, exist_ok=True)
    store, console = ArtifactStore(out.resolve() / "store"), output()
    measured = _measured(plan, model=model, store=store, out=out)
    path = write_results(measured, out=out, store=store)
    _show(measured, plan, console=console)
    console.print(f"wrote {path} and {out / 'evaluation.json'}", highlight=False, soft_wrap=True)


def _measured(plan: Recipe, *, model: str, store: ArtifactStore, out: Path) -> Measured:
    from mendloop.cli.measuring import measure

    columns = (TextColumn("items"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    try:
        with (
            model_directory(model, base_dir=Path.cwd()) as directory,
            _Models(plan, work_dir=out / "work") as models,
            Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress,
        ):
            bar = progress.add_task("items", total=None)
            return measure(
                directory,
                recipe=plan,
                store=store,
                open_model=models.open,
                on_start=lambda total: progress.update(bar, total=total),
                on_scored=lambda count: progress.advance(bar, count),
            )
    except KeyboardInterrupt:
        screen.print(GOES_ON)
        raise typer.Exit(130) from None


class _Models:
    """Opens checkpoints with the plan's backend; a server that was started ends with the block."""

    def __init__(self, plan: Recipe, *, work_dir: Path) -> None:
        self._backend, self._work_dir = plan.suite.backend, work_dir
        self._serving: object = None

    def __enter__(self) -> _Models:
        return self

    def __exit__(self, *_: object) -> None:
        if self._serving is not None:
            self._serving.close()  # type: ignore[attr-defined]  # OwnServer or GivenServer, heavy to import for a type

    def open(self, directory: Path) -> MeteredModel:
        """The model of a directory."""
        from mendloop.evaluator.adapters.serving import serving_of
        from mendloop.evaluator.settings import EvaluatorSettings
        from mendloop.models.transformers_backend import load_model

        if self._backend == "transformers":
            return load_model(directory)
        settings = EvaluatorSettings.from_environment().model_copy(update={"work_dir": self._work_dir})
        serving = serving_of(settings, environment=os.environ)
        self._serving = serving
        return serving.model(directory)


def _options(text: str) -> dict[str, object]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--options {text!r} is no JSON: {error}") from error
    if not isinstance(options, dict):
        raise typer.BadParameter(f"--options {text!r} is no JSON object")
    return options


def _show(measured: Measured, plan: Recipe, *, console: Console) -> None:
    low, high = measured.interval
    console.print(
        f"accuracy {measured.correct / measured.n:.1%} ({measured.correct} of {measured.n} items),"
        f" 95 % interval {low:.1%} to {high:.1%}",
        highlight=False,
    )
    over = measured.pass_at_1
    if over.repeat_count > 1:
        console.print(
            f"pass@1 over {over.repeat_count} draws an item: {over.mean:.1%} ± {1.96 * over.standard_error:.1%}"
            f" (temperature {plan.suite.temperature}, seed {plan.suite.seed}); the accuracy above and the slices count"
            " the first draw",
            highlight=False,
        )
    for name, values in (
        ("stop", Counter(row.stop_reason for row in measured.outcomes)),
        ("extraction", Counter(row.extraction for row in measured.outcomes)),
    ):
        console.print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in values.most_common()), highlight=False)
    if any(row.first_wrong_step is not None for row in measured.outcomes):
        for line in steps_summary(measured.outcomes):
            console.print(line, highlight=False)
    for detector in measured.judged:
        console.print(judged_words(detector), highlight=False, soft_wrap=True)
    for read in measured.axes_read:
        console.print(read.words, highlight=False, soft_wrap=True)
    cost = measured.cost
    console.print(
        f"{len(measured.outcomes) / max(cost.wall_s, 1e-9):.1f} items/s, {cost.token_count} tokens,"
        f" {cost.wall_s:.1f} s at the model ({plan.suite.backend})",
        highlight=False,
    )
    console.print(_weak(measured) if measured.search.weak else "no weak slice", highlight=False)


def _weak(measured: Measured) -> Table:
    table = Table("weak slice", "right", "accuracy", "95 % interval", "q", box=None)
    for found in measured.search.weak:
        correct, n = found.search.correct + found.confirm.correct, found.search.n + found.confirm.n
        low, high = clopper_pearson(correct, n)
        table.add_row(
            slice_name(found.conditions),
            f"{correct} of {n}",
            f"{correct / n:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{found.q_value:.2g}",
        )
    return table
