"""Checkpoints of plans: trained once where they are healthy, then kept by the hash of their plan.

Knows plans and directories; knows no fault by name.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from mendloop.examples.faults.measuring import evaluate
from mendloop.examples.faults.plan import Plan
from mendloop.examples.faults.training import train

REPORT_FILE = "trained.json"
SCORES_FILE = "scores.json"


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: small matrices gain nothing from more, and the bytes of a training depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Made(NamedTuple):
    """A trained checkpoint, the report of its training (JSON values), and the checkpoint that it began from."""

    directory: Path
    report: Mapping[str, Any]
    start: Path | None
    is_kept: bool = False
    """Whether it came from the cache: training again would give the same."""


class Workshop:
    """Trains plans. What is kept lies in cache/<training hash>/{model, trained.json, scores.json}."""

    def __init__(self, cache: Path, *, on_stage: Callable[[str], None] = lambda stage: None) -> None:
        self._cache, self._on_stage = cache, on_stage

    def kept(self, plan: Plan) -> Made:
        """The plan's checkpoint from the cache, trained where it is not there. Whoever comes first fills the place."""
        place = self._cache / plan.training_sha
        if not (place / REPORT_FILE).is_file():
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = Path(mkdtemp(dir=self._cache, prefix=".partial-"))
            self._on_stage("training a healthy model")
            made = self._trained(plan, partial)
            (partial / REPORT_FILE).write_text(json.dumps(made.report))
            try:
                os.replace(partial, place)
            except OSError:
                shutil.rmtree(partial)
                if not (place / REPORT_FILE).is_file():  # not the race that another process won
                    raise
        start = self.kept(plan.start).directory if plan.start else None
        return Made(place / "model", json.loads((place / REPORT_FILE).read_text()), start, is_kept=True)

    def checkpoint(self, plan: Plan, *, scratch: Path, keeps: Plan) -> Made:
        """The plan's checkpoint, written under scratch; that of the plan to keep comes from the cache."""
        if plan.training_sha == keeps.training_sha:
            return self.kept(keeps)
        sound = plan.without_weight_noise()
        if sound.training_sha == keeps.training_sha:
            made = self.kept(keeps)
            shutil.copytree(made.directory, scratch / "model")
        else:
            self._on_stage("training")
            made = self._trained(sound, scratch)
        if plan.weight_noise:
            _damage(scratch / "model", share=plan.weight_noise, seed=plan.seed)
        return Made(scratch / "model", made.report, made.start)

    def healthy_scores(self, plan: Plan) -> Mapping[str, float]:
        """Score of each item under the healthy model and evaluation."""
        made = self.kept(plan)
        path = made.directory.parent / f"{plan.sha[:16]}-{SCORES_FILE}"
        if not path.is_file():
            self._on_stage("evaluating the healthy model")
            scores = {row.item_id: row.score for row in evaluate(plan, made.directory)}
            path.with_suffix(".part").write_text(json.dumps(scores))
            os.replace(path.with_suffix(".part"), path)
        found: dict[str, float] = json.loads(path.read_text())
        return found

    def _trained(self, plan: Plan, folder: Path) -> Made:
        start = self.kept(plan.start).directory if plan.start else None
        source = start or plan.family.build_model(folder / "untrained", seed=plan.training_seed, size=plan.size)
        trained = train(
            source,
            folder / "model",
            examples=plan.corpus,
            template=plan.training_template,
            settings=plan.settings,
            seed=plan.training_seed,
            hidden_share=plan.hidden_share,
        )
        shutil.rmtree(folder / "untrained", ignore_errors=True)
        return Made(folder / "model", trained.document(), start)


def _damage(directory: Path, *, share: float, seed: int) -> None:
    """Add noise to every matrix, of a share of its standard deviation."""
    generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(32))
    for path in sorted(directory.glob("*.safetensors")):
        weights = load_file(path)
        for name, value in sorted(weights.items()):
            if value.dim() > 1:
                weights[name] = value + share * value.std() * torch.randn(value.shape, generator=generator)
        save_file(weights, path, metadata={"format": "pt"})
