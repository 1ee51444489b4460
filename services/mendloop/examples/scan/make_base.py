"""Rebuilds the SCAN base checkpoint that ships: python -m mendloop.examples.scan.make_base.

Trains the untrained model with the trainer's own code, on the corpus of the shipped recipes without the items of any
of them, and records how in base.json beside the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.progress import Progress

from mendloop.artifacts.store import Artifact
from mendloop.core.recipe import Recipe, TrainSettings, parse_recipe
from mendloop.core.records import Example, fingerprint
from mendloop.core.training import TrainingJob, TrainingReport, counted_settings
from mendloop.examples.scan.model import TEMPLATE, save_untrained
from mendloop.examples.scan.task import ScanTask
from mendloop.trainer.adapters.hf_training import run_job

SEED = 0
SETTINGS = TrainSettings(steps=2500, batch_size=64, learning_rate=3e-3, warmup_steps=100, save_steps=2500)
RECORD = "base.json"
BASE = Path(__file__).parent / "base"


@dataclass(frozen=True, slots=True)
class Build:
    """How a base checkpoint is made; the one that ships has the defaults."""

    seed: int = SEED
    settings: TrainSettings = SETTINGS


def shipped_recipes() -> list[Recipe]:
    """The recipes of this package."""
    with as_file(files("mendloop.examples.scan").joinpath("recipes")) as folder:
        return [parse_recipe(path.read_text(), source=path.name) for path in sorted(folder.glob("*.yaml"))]


def base_corpus(recipes: Sequence[Recipe]) -> list[Example]:
    """What submission leaves of the recipes' corpus: the training part of the split, without any recipe's items."""
    marks = {fingerprint(item) for recipe in recipes for item in _item_prompts(recipe)}
    corpora = {json.dumps(recipe.corpus, sort_keys=True): recipe for recipe in recipes}
    if len(corpora) != 1:
        raise ValueError(f"the shipped recipes have different corpora: {', '.join(corpora)}; one base cannot fit all")
    [recipe] = corpora.values()
    corpus = ScanTask(recipe.suite.options).corpus(recipe.corpus)
    return [example for example in corpus if fingerprint(example.prompt) not in marks]


def make_base(out_dir: Path, *, build: Build, on_step: Callable[[int, int], None]) -> TrainingReport:
    """Train and write a base checkpoint with its record. The folder is replaced."""
    corpus = base_corpus(shipped_recipes())
    with TemporaryDirectory() as scratch:
        start = save_untrained(Path(scratch) / "untrained", seed=build.seed)
        trained = Path(scratch) / "trained"
        report = run_job(
            _job(build, corpus=corpus),
            start_dir=start,
            corpus=corpus,
            batch=None,
            work_dir=Path(scratch) / "points",
            out_dir=trained,
            on_step=on_step,
        )
        (trained / RECORD).write_text(json.dumps(_record(build, corpus=corpus, report=report), indent=2) + "\n")
        shutil.rmtree(out_dir, ignore_errors=True)
        shutil.copytree(trained, out_dir)
    return report


def corpus_hash(corpus: Sequence[Example]) -> str:
    """SHA-256 of the corpus, whatever its order."""
    lines = sorted(f"{example.prompt}\t{example.completion}" for example in corpus)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def main() -> None:
    """Rebuild with a progress bar."""
    parser = argparse.ArgumentParser(description="Rebuild the SCAN base checkpoint that ships.")
    parser.add_argument("--out", type=Path, default=BASE, help="folder to write (default: the one that ships)")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: torch's own choice)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    build = Build()
    with Progress() as progress:
        task = progress.add_task("training the SCAN base", total=build.settings.steps)
        report = make_base(
            arguments.out, build=build, on_step=lambda step, tokens: progress.update(task, completed=step)
        )
    print(f"{arguments.out}: {report.step_count} steps, {report.token_count} tokens, {report.wall_s:.0f} s")


def _item_prompts(recipe: Recipe) -> list[str]:
    suite = recipe.suite
    counts = {"search": suite.search, "confirm": suite.confirm, "sealed": suite.sealed}
    return [item.prompt for item in ScanTask(suite.options).items(counts=counts, seed=recipe.seed)]


def _job(build: Build, *, corpus: Sequence[Example]) -> TrainingJob:
    """The job names what it trains by hash; nothing of it lies in a store."""
    start = Artifact("untrained:", hashlib.sha256(f"untrained/{build.seed}".encode()).hexdigest(), 0, "")
    data = Artifact("corpus:", corpus_hash(corpus), 0, "")
    return TrainingJob(start, data, None, 0.0, build.settings, TEMPLATE, build.seed, token_limit=0)


def _record(build: Build, *, corpus: Sequence[Example], report: TrainingReport) -> dict[str, object]:
    return {
        "made_by": "python -m mendloop.examples.scan.make_base",
        "seed": build.seed,
        "template": TEMPLATE,
        "settings": counted_settings(build.settings),
        "corpus": {"count": len(corpus), "sha256": corpus_hash(corpus)},
        "training": {"steps": report.step_count, "tokens": report.token_count},
        "last_loss": report.loss_curve[-1][1],
    }


if __name__ == "__main__":
    main()
