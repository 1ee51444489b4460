"""The Hugging Face Trainer as this service uses it: our data order, our resume points, our loss curve, no chatter.

Knows one training; knows neither jobs nor artifacts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from peft import PeftModel
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from mendloop.core.errors import Permanent
from mendloop.core.recipe import TrainSettings
from mendloop.trainer.adapters.best_weights import trainable
from mendloop.trainer.adapters.collation import Collation, OrderedRows
from mendloop.trainer.adapters.faults import full_disk_is_retryable
from mendloop.trainer.adapters.ranks import from_first, is_first, mean_over_processes, process_count, wait_for_all
from mendloop.trainer.adapters.resume_points import ResumePoint, save_point
from mendloop.trainer.adapters.watching import Course, Pace, Watch
from mendloop.trainer.domain.labels import IGNORED
from mendloop.trainer.ports import Progress


def training_arguments(
    settings: TrainSettings, *, directory: Path, step_count: int, seed: int, strategy: str = "ddp"
) -> TrainingArguments:
    """AdamW with linear warm-up and decay, gradients clipped at 1.0; nothing logged, reported or saved by itself.

    batch_size is the size of a whole step: each process takes its share. Raises Permanent where it has no equal shares.
    """
    count = process_count()
    if settings.batch_size % count:
        raise Permanent(f"batch_size {settings.batch_size} has no equal shares for {count} processes; change either")
    if count > 1 and strategy == "fsdp" and PartialState().distributed_type == DistributedType.MULTI_CPU:
        raise Permanent("accelerate shards models on GPUs alone; set MENDLOOP_TRAINER_STRATEGY to ddp")  # it is silent
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=settings.batch_size // count,
        **_together(strategy) if count > 1 else {},
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


def _together(strategy: str) -> dict[str, Any]:
    """What several processes need. FSDP shards every layer, and its resume points hold the whole model."""
    options: dict[str, Any] = {
        "use_cpu": not torch.cuda.is_available(),
        "accelerator_config": {"use_configured_state": True},  # the state that the worker made stands
    }
    if strategy == "fsdp":
        options |= {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT"}}
    return options


class JobTrainer(Trainer):
    """A Trainer whose batches are given in order and whose resume points are whole or absent."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        *,
        args: TrainingArguments,
        data: OrderedRows,
        collation: Collation,
        course: Course,
        watch: Watch,
        points: Path,
        save_steps: int,
    ) -> None:
        steering = _Steering(watch, save_steps, every=course.curve.every, measure=self.measure_held_out)
        super().__init__(model=model, args=args, train_dataset=data, data_collator=collation, callbacks=[steering])
        self.remove_callback(PrinterCallback)
        self._data, self._course, self._watch, self._points = data, course, watch, points
        self._collation = collation
        self._unread: list[torch.Tensor] = []
        self._unread_norms: list[torch.Tensor] = []
        self._pace = Pace(watch.step_tokens)

    def run(self, point: ResumePoint | None) -> int:
        """Train from the resume point, or from the start; the number of steps done in all.

        Raises Permanent where the training diverges, Retryable where a resume point cannot be written.
        """
        self._pace.begin(point.step if point else 0)
        self.train(resume_from_checkpoint=str(point.path) if point else None)
        self.read_losses()
        return int(self.state.global_step)

    @property
    def tokens_per_s(self) -> float:
        """Input tokens a second of the steps of this attempt."""
        return self._pace.tokens_per_s(int(self.state.global_step))

    def whole_weights(self) -> dict[str, Any] | None:
        """All weights, gathered in the first process, where every process holds only parts of them; else None."""
        if not self.is_fsdp_enabled:
            return None
        gathered: dict[str, Any] = self.accelerator.get_state_dict(self.model_wrapped)
        return gathered

    def read_losses(self) -> None:
        """Bring losses and gradient norms of the last steps from the device to the curve, all of them at once."""
        losses, self._unread = self._unread, []
        norms, self._unread_norms = self._unread_norms, []
        self._course.curve.add_norms(torch.stack(norms).tolist() if norms else [])
        self._course.curve.add(mean_over_processes(torch.stack(losses)).tolist() if losses else [])

    def measure_held_out(self, step: int) -> str:
        """Measure the held-out loss where it is due; why the training shall end after this step, or nothing.

        Dropout is off, so no random number is drawn: the training goes on as if nobody had measured. Where the lowest
        loss decides which weights are kept, the last step is measured too.
        """
        course = self._course
        is_due = step % course.held_out_every == 0 or (course.best is not None and step == self.state.max_steps)
        if not course.held_out_rows or not is_due:
            return ""
        loss = self._held_out_loss()
        course.held_out.add(step, from_first(lambda: loss))  # one last bit less would end one process alone
        if course.best is not None and course.held_out.lowest_step == step:
            gathered = self.whole_weights()
            weights = trainable(self.accelerator.unwrap_model(self.model_wrapped)) if gathered is None else gathered
            course.best.keep(weights if is_first() else {})
        return course.held_out.reason_to_stop()

    def held_out_weight(self, inputs: dict[str, torch.Tensor]) -> int:
        """What the loss of a batch is a mean over: labelled tokens."""
        return int((inputs["labels"][:, 1:] != IGNORED).sum())

    def _held_out_loss(self) -> float:
        rows, size = self._course.held_out_rows, self.args.per_device_train_batch_size
        model = self.model_wrapped
        model.eval()
        total = weight = 0.0
        with torch.no_grad():
            for begin in range(0, len(rows), size):
                inputs = self._prepare_inputs(self._collation(rows[begin : begin + size]))
                own = self.held_out_weight(inputs)
                loss: Any = self.compute_loss(model, inputs)
                total += own * float(loss)
                weight += own
        model.train()
        return total / max(weight, 1)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One step; its loss is kept on the device and read every few steps."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._unread.append(loss)
        if len(self._unread) >= self._course.curve.every:
            self.read_losses()
            self._tell()
        return loss

    def _tell(self) -> None:
        course, step = self._course, int(self.state.global_step) + 1
        norms, held_out = course.curve.norms(), course.held_out.points()
        self._watch.on_progress(
            Progress(
                step,
                loss=course.curve.points()[-1][1],
                gradient_norm=norms[-1][1] if norms else 0.0,
                tokens_per_s=self._pace.tokens_per_s(step),
                held_out_loss=held_out[-1][1] if held_out else None,
            )
        )

    def _clip_grad_norm(self, model: Any) -> Any:
        clip: Any = super()._clip_grad_norm
        norm = clip(model)
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # FSDP keeps a part in each process
        self._unread_norms.append(torch.as_tensor(whole).detach())
        return norm

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
            "curve": self._course.curve.state(),
            "held_out": self._course.held_out.state(),
            "elapsed_s": self._watch.elapsed_s(),
            "threads": torch.get_num_threads(),
        }
        if self._course.groups is not None:
            progress["groups"] = self._course.groups.state()
        with full_disk_is_retryable(self._points):
            if is_first():
                save_point(self._points, step=self.state.global_step, progress=progress, write=self._write_point)
            else:
                self._write_point(Path())

    def _write_point(self, folder: Path) -> Path:
        """Every process writes its part (random generators at least) into the folder of the first one."""
        folder = from_first(lambda: folder)
        output_dir, self.args.output_dir = self.args.output_dir, str(folder)
        try:
            super()._save_checkpoint(self.model_wrapped, None)
        finally:
            self.args.output_dir = output_dir
        written = folder / f"checkpoint-{self.state.global_step}"
        if self._course.best is not None:
            self._course.best.write(written)
        wait_for_all()
        return written


class _Steering(TrainerCallback):
    """Counts steps, measures the held-out loss, asks for resume points, ends the training where it has to end."""

    def __init__(self, watch: Watch, save_steps: int, *, every: int, measure: Callable[[int], str]) -> None:
        self._watch, self._save_steps, self._every, self._measure = watch, save_steps, every, measure

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step = state.global_step
        self._watch.on_step(step, self._watch.step_tokens[step - 1])
        reason = self._measure(step)
        if step == state.max_steps:
            return control
        if reason or self._is_spent():
            control.should_training_stop = True
        elif self._stops(step):
            control.should_save = control.should_training_stop = True
        elif step % self._save_steps == 0:
            control.should_save = True
        return control

    def _is_spent(self) -> bool:
        """Whether the GPU-seconds are spent. A limited step is waited for: what is queued is not metered yet."""
        device = self._watch.device
        if device.limit_s is None:
            return False
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        device.is_over = from_first(device.is_spent)
        return device.is_over

    def _stops(self, step: int) -> bool:
        """Whether the service stops; several processes have to agree, and ask only where they wait anyway."""
        if process_count() == 1:
            return self._watch.is_stopping()
        return step % self._every == 0 and from_first(self._watch.is_stopping)
