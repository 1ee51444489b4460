"""The Hugging Face Trainer as this service uses it: our data order, our resume points, our loss curve, no chatter.

Knows one training; knows neither jobs nor artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from mendloop.core.recipe import TrainSettings
from mendloop.trainer.adapters.collation import OrderedExamples, RightPadding
from mendloop.trainer.adapters.faults import full_disk_is_retryable
from mendloop.trainer.adapters.resume_points import ResumePoint, save_point
from mendloop.trainer.domain.losses import LossCurve

OnStep = Callable[[int, int], None]
"""Called after each step with its number, from 1, and its input tokens without padding."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a training reports to, and asks whether to go on."""

    is_stopping: Callable[[], bool]
    on_step: OnStep
    step_tokens: Sequence[int]
    elapsed_s: Callable[[], float]


def training_arguments(settings: TrainSettings, *, directory: Path, step_count: int, seed: int) -> TrainingArguments:
    """AdamW with linear warm-up and decay, gradients clipped at 1.0; nothing logged, reported or saved by itself."""
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=settings.batch_size,
        max_steps=step_count,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        seed=seed % 2**32,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )


class JobTrainer(Trainer):
    """A Trainer whose batches are given in order and whose resume points are whole or absent."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        args: TrainingArguments,
        data: OrderedExamples,
        padding: RightPadding,
        curve: LossCurve,
        watch: Watch,
        points: Path,
        save_steps: int,
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=data, data_collator=padding, callbacks=[_Steering(watch, save_steps)]
        )
        self.remove_callback(PrinterCallback)
        self._data, self._curve, self._watch, self._points = data, curve, watch, points
        self._unread: list[torch.Tensor] = []

    def run(self, point: ResumePoint | None) -> int:
        """Train from the resume point, or from the start; the number of steps done in all.

        Raises Permanent where the training diverges, Retryable where a resume point cannot be written.
        """
        self.train(resume_from_checkpoint=str(point.path) if point else None)
        self.read_losses()
        return int(self.state.global_step)

    def read_losses(self) -> None:
        """Bring the losses of the last steps from the device to the curve: one synchronization for all of them."""
        losses, self._unread = self._unread, []
        if losses:
            self._curve.add(torch.stack(losses).tolist())

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One step; its loss is kept on the device and read every few steps."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._unread.append(loss)
        if len(self._unread) >= self._curve.every:
            self.read_losses()
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Nothing: the Trainer counts all parameters anew at each step, and we meter from the schedule."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Nothing: the report holds what there is to say."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self._data)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.read_losses()  # a training that diverged must not leave a resume point
        progress = {
            "curve": self._curve.state(),
            "elapsed_s": self._watch.elapsed_s(),
            "threads": torch.get_num_threads(),
        }
        with full_disk_is_retryable(self._points):
            save_point(self._points, step=self.state.global_step, progress=progress, write=self._write_point)

    def _write_point(self, folder: Path) -> Path:
        output_dir, self.args.output_dir = self.args.output_dir, str(folder)
        try:
            super()._save_checkpoint(self.model_wrapped, None)
        finally:
            self.args.output_dir = output_dir
        return folder / f"checkpoint-{self.state.global_step}"


class _Steering(TrainerCallback):
    """Counts steps, asks for resume points, and ends the training where the service stops."""

    def __init__(self, watch: Watch, save_steps: int) -> None:
        self._watch, self._save_steps = watch, save_steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step = state.global_step
        self._watch.on_step(step, self._watch.step_tokens[step - 1])
        if step == state.max_steps:
            return control
        if self._watch.is_stopping():
            control.should_save = control.should_training_stop = True
        elif step % self._save_steps == 0:
            control.should_save = True
        return control


def stopwatch(before_s: float) -> Callable[[], float]:
    """Seconds since now, on top of those that earlier attempts took."""
    started = time.monotonic()
    return lambda: before_s + time.monotonic() - started
