"""MendloopCallback: evaluates the model of a Hugging Face Trainer every few steps.

The training must not notice: mode and every random generator are put back, no gradient is made, errors are counted.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.bus.wiring import open_bus, open_store
from mendloop.callback.live_evaluation import LiveEvaluation, LiveResult, default_store
from mendloop.callback.live_report import write_report
from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe, load_recipe
from mendloop.models.checkpoint import save_checkpoint
from mendloop.models.transformers_backend import TransformersModel

log = logging.getLogger(__name__)


class MendloopCallback(TrainerCallback):
    """Measures a suite every `every_steps` optimizer steps and once after the last one.

    results holds what was found, errors what went wrong instead; both stand in out_dir/report.md and report.json.
    In a training of several processes the first one measures and the others wait at their next step.
    """

    def __init__(
        self,
        recipe: Recipe | Path | str,
        *,
        every_steps: int,
        out_dir: Path | str = "mendloop-eval",
        tokenizer: Any = None,
        bus: str = "",
        artifacts_uri: str = "",
        run_id: str = "",
        keep_checkpoints: bool = False,
    ) -> None:
        """Draw the suite; a recipe is given as it is or as its file. Nothing is measured yet.

        Args:
            every_steps: optimizer steps between evaluations, at least 1.
            out_dir: folder of the report, and of bus and artifacts where they are not set.
            tokenizer: where the Trainer has no processing_class.
            bus: local:PATH or kafka:HOST:PORT; empty: a bus in out_dir.
            artifacts_uri: where outcomes and checkpoints lie; empty: in out_dir. Subscribers need to reach it.
            run_id: the run that the events name; empty: the recipe's name with eight random digits.
            keep_checkpoints: store the weights of each evaluation, so that a diagnostician can load them.

        Raises InvalidRecipe for a suite that cannot be drawn, ValueError for every_steps below 1.
        """
        if every_steps < 1:
            raise ValueError(f"every_steps is {every_steps}; it must be at least 1")
        self._recipe = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
        self._every, self._folder, self._tokenizer = every_steps, Path(out_dir), tokenizer
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store: ArtifactStore = open_store(artifacts_uri) if artifacts_uri else default_store(self._folder)
        self._keeps = keep_checkpoints
        self.run_id = run_id or f"{self._recipe.name}-{uuid.uuid4().hex[:8]}"
        self._evaluation = LiveEvaluation(
            self._recipe,
            run_id=self.run_id,
            store=self._store,
            bus=open_bus(bus or f"local:{self._folder.resolve() / 'bus.db'}"),
        )
        self.results: list[LiveResult] = []
        self.errors: list[str] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate where it is due."""
        if state.global_step % self._every == 0:
            self._measure(args, state, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate what the training ended with, unless that was done at its last step."""
        if state.global_step % self._every:
            self._measure(args, state, **kwargs)

    def _measure(
        self, args: TrainingArguments, state: TrainerState, *, model: Any = None, processing_class: Any = None, **_: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        step = int(state.global_step)
        try:
            _refuse_parts(args)
            with _undisturbed(model):
                result = self._measured(model, self._tokenizer or processing_class, step=step)
            self.results.append(result)
            log.info("evaluated in training", extra={"step": step, "accuracy": result.accuracy, "n": result.n})
        except Exception as error:  # a promise of this class: whatever an evaluation meets, the training goes on
            log.exception("evaluation in training failed", extra={"step": step, "run_id": self.run_id})
            self.errors.append(f"step {step}: {type(error).__name__}: {error}")
        self._report()

    def _measured(self, model: Any, tokenizer: Any, *, step: int) -> LiveResult:
        if tokenizer is None:
            raise InvalidRecipe("the Trainer has no processing_class; give the tokenizer to MendloopCallback")
        live = TransformersModel(model, tokenizer, name=f"{self.run_id} at step {step}")
        checkpoint = self._kept(model, tokenizer) if self._keeps else None
        return self._evaluation.measure(live, step=step, checkpoint=checkpoint)

    def _kept(self, model: Any, tokenizer: Any) -> Artifact:
        with TemporaryDirectory(dir=self._folder) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            return save_checkpoint(self._store, Path(folder))

    def _report(self) -> None:
        try:
            write_report(self._folder, self.results, name=self._recipe.name, errors=self.errors)
        except OSError as error:  # a full disk shall not end the training either
            log.warning("the report could not be written", extra={"reason": str(error)})


def _refuse_parts(args: TrainingArguments) -> None:
    """Raises InvalidRecipe for a model that lies in parts: one process alone would wait for the others for ever."""
    if args.fsdp or args.deepspeed:
        raise InvalidRecipe("FSDP and DeepSpeed hold the model in parts; it cannot be measured while it trains")


@contextmanager
def _undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; after it mode and random generators of Python, NumPy and torch are as before."""
    modes = {part: part.training for part in model.modules()}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was_training in modes.items():
            part.training = was_training
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)
