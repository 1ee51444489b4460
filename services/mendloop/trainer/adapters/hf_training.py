"""Runs one training job with the Hugging Face Trainer: prepare, check, train, save, report.

Knows jobs, rows and directories; knows neither events nor the artifact store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from mendloop.core.errors import Interrupted, Permanent
from mendloop.core.records import Example, Preference
from mendloop.core.training import FailureCause, GroupCourse, HealthCheck, TrainingFailure, TrainingJob, TrainingReport
from mendloop.trainer.adapters.best_weights import BestWeights
from mendloop.trainer.adapters.collation import Collation, OrderedRows, Packing, PairPadding, RightPadding
from mendloop.trainer.adapters.group_dro import GroupDroTrainer, GroupPadding, group_courses, measured
from mendloop.trainer.adapters.hf_trainer import JobTrainer, training_arguments
from mendloop.trainer.adapters.lora import merged, save_adapter, with_adapters
from mendloop.trainer.adapters.preferences import PreferenceTrainer, with_references
from mendloop.trainer.adapters.preparing import Prepared, Refused, check, prepare
from mendloop.trainer.adapters.ranks import from_first, is_first, process_count
from mendloop.trainer.adapters.resume_points import ResumePoint, forget_points, newest_point
from mendloop.trainer.adapters.start_checkpoint import Start, load_start, padding_id, save_trained
from mendloop.trainer.adapters.watching import Course, DeviceTime, OnStep, Watch, stopwatch
from mendloop.trainer.domain.cost import training_flops
from mendloop.trainer.domain.group_weights import GroupWeights
from mendloop.trainer.domain.held_out import HeldOutLosses
from mendloop.trainer.domain.labels import LabelledExample
from mendloop.trainer.domain.losses import Diverged, LossCurve, curve_interval
from mendloop.trainer.ports import Progress, TrainingFailed

log = logging.getLogger(__name__)


def uses_gpu() -> bool:
    """Whether trainings of this machine run on a GPU: the Trainer takes one where there is one."""
    return torch.cuda.is_available()


def gpu_seconds(wall_s: float) -> float:
    """What so many seconds of this training count as: one GPU a process, none on a CPU."""
    return wall_s * process_count() if uses_gpu() else 0.0


def run_job(
    job: TrainingJob,
    *,
    start_dir: Path,
    corpus: Sequence[Example],
    batch: Sequence[Example | Preference] | None,
    work_dir: Path,
    out_dir: Path,
    is_stopping: Callable[[], bool] = lambda: False,
    on_step: OnStep = lambda step, token_count: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    torch_threads: int = 0,
    peak_flops: float = 0.0,
    strategy: str = "ddp",
    gpu_s_limit: float | None = None,
    gpu_s: Callable[[float], float] = gpu_seconds,
) -> TrainingReport:
    """Train the job and write the checkpoint to out_dir.

    Where several processes train together (torchrun), all of them call this; strategy is ddp or fsdp, and the first
    one writes.

    Resume points lie in work_dir/<job_id>; a job that was killed or interrupted goes on from the newest good one, and
    on a CPU its result has the same bytes: it keeps the number of threads that it began with, because sums are cut by
    threads. The caller deletes the points (forget_points) when the result is kept. Tokens are input tokens without
    padding, those of a repeated example each time.

    gpu_s says what seconds of all attempts count as; no step begins when gpu_s_limit is reached, so that at most one
    step goes past it.

    Raises Permanent for a start that cannot be loaded; TrainingFailed for unhealthy data, a token limit without a step,
    divergence and spent GPU-seconds; Retryable on a full disk; Interrupted where is_stopping became true, after a
    resume point was written.
    """
    points = work_dir / job.job_id
    point = from_first(lambda: newest_point(points))
    _use_threads(int(point.progress["threads"]) if point else torch_threads)
    elapsed_s = stopwatch(float(point.progress["elapsed_s"]) if point else 0.0)
    device = DeviceTime(gpu_s_limit, lambda: gpu_s(elapsed_s()))
    start = load_start(start_dir)
    try:
        data = prepare(job, tokenizer=start.tokenizer, corpus=corpus, batch=batch or ())
        health = check(job, tokenizer=start.tokenizer, data=data)
    except Refused as error:
        raise TrainingFailed(_refused(job, error, device=device, elapsed_s=elapsed_s)) from error
    run = _Run(job, start, data, health, _course(job, start=start, data=data, point=point), elapsed_s, device)
    watch = Watch(is_stopping, on_step, data.step_tokens, elapsed_s, on_progress, device)
    trainer = _trainer(run, watch=watch, points=points, strategy=strategy)
    _train(run, trainer=trainer, point=point, points=points)
    report = run.report(trainer=trainer, peak_flops=peak_flops)
    _save(run, trainer=trainer, directory=out_dir)
    return report


@dataclass(frozen=True, slots=True)
class _Run:
    """What one attempt at a job works with."""

    job: TrainingJob
    start: Start
    data: Prepared
    health: tuple[HealthCheck, ...]
    course: Course
    elapsed_s: Callable[[], float]
    device: DeviceTime

    def report(self, *, trainer: JobTrainer, peak_flops: float) -> TrainingReport:
        """What a training that reached its end was."""
        step_count = int(trainer.state.global_step)
        curve, pace = self.course.curve, trainer.tokens_per_s
        reasons = (self.data.cut.reason, self.course.held_out.reason_to_stop())
        return TrainingReport(
            job=self.job,
            health=self.health,
            loss_curve=curve.points(),
            step_count=step_count,
            token_count=self.token_count(step_count),
            wall_s=self.elapsed_s(),
            flops=self.flops(self.token_count(step_count)),
            stopped_early="; ".join(filter(None, reasons)),
            gradient_norms=curve.norms(),
            held_out_curve=self.course.held_out.points(),
            tokens_per_s=pace,
            mfu=self.flops(1) * pace / peak_flops if peak_flops else None,
            process_count=trainer.args.world_size,
            kept_step=self.course.held_out.lowest_step if self.course.best else 0,
            groups=self.group_courses(trainer.model),
        )

    def group_courses(self, model: Any) -> tuple[GroupCourse, ...]:
        """What the groups of group DRO were, with the losses of the model of the last step."""
        weights = self.course.groups
        if weights is None:
            return ()
        return group_courses(weights, self.data.rows, final=_group_losses(self, model, weights=weights))

    def failure(self, reason: str, *, cause: FailureCause, step: int) -> TrainingFailure:
        """What a training that became no checkpoint was until then."""
        token_count = self.token_count(step)
        return TrainingFailure(
            job=self.job,
            health=self.health,
            cause=cause,
            reason=reason,
            step=step,
            loss_curve=self.course.curve.points(),
            last_losses=self.course.curve.recent(),
            gradient_norms=self.course.curve.norms(),
            token_count=token_count,
            wall_s=self.elapsed_s(),
            gpu_s=self.device.spent_s(),
            flops=self.flops(token_count),
            gpu_s_limit=self.device.limit_s,
        )

    def spent(self, *, step: int) -> TrainingFailure:
        """What a training was that its limit ended after this step."""
        spent_s, limit_s = self.device.spent_s(), self.device.limit_s
        reason = (
            f"its GPU-seconds are spent: {spent_s:.1f} of {limit_s:g} after step {step} of {self.data.cut.step_count}; "
            "the step that reached the limit was the last; raise budget.gpu_s (or money), or lower steps"
        )
        return self.failure(reason, cause="budget", step=step)

    def token_count(self, step_count: int) -> int:
        """Input tokens of the first steps."""
        return sum(self.data.step_tokens[:step_count])

    def flops(self, token_count: int) -> float:
        """What so many tokens cost; the model's parameters are counted before any adapter."""
        settings = self.job.settings
        return training_flops(
            self.start.parameter_count, token_count=token_count, method=settings.method, objective=settings.objective
        )


def _refused(
    job: TrainingJob, error: Refused, *, device: DeviceTime, elapsed_s: Callable[[], float]
) -> TrainingFailure:
    """What a training was whose data was refused: no step, and the time that looking at it took."""
    return TrainingFailure(
        job=job,
        health=error.health,
        cause="unhealthy",
        reason=str(error),
        step=0,
        loss_curve=(),
        last_losses=(),
        gradient_norms=(),
        token_count=0,
        wall_s=elapsed_s(),
        gpu_s=device.spent_s(),
        flops=0.0,
        gpu_s_limit=device.limit_s,
    )


def _use_threads(count: int) -> None:
    if count and count != torch.get_num_threads():
        torch.set_num_threads(count)


def _course(job: TrainingJob, *, start: Start, data: Prepared, point: ResumePoint | None) -> Course:
    """The curves, as a resume point left them. A preference guesses between two answers."""
    settings = job.settings
    is_choice = settings.objective == "dpo" and not job.replay_share
    progress = point.progress if point else {}
    curve = LossCurve(
        every=curve_interval(data.cut.step_count),
        vocabulary_size=2 if is_choice else start.model.config.vocab_size,
        state=progress.get("curve"),
    )
    held_out = HeldOutLosses(patience=settings.patience, state=progress.get("held_out"))
    best = BestWeights(point.path if point else None) if settings.patience else None
    groups = _group_weights(job, data, state=progress.get("groups"))
    return Course(curve, held_out, data.held_out, settings.held_out_every, best, groups)


def _group_weights(job: TrainingJob, data: Prepared, *, state: Mapping[str, Any] | None) -> GroupWeights | None:
    if job.settings.group_dro is None:
        return None
    groups = sorted({row.group for row in data.rows if isinstance(row, LabelledExample)})
    return GroupWeights(groups, settings=job.settings.group_dro, state=state)


def _trainer(run: _Run, *, watch: Watch, points: Path, strategy: str) -> JobTrainer:
    """The trainer that the objective needs, over all weights or over adapters."""
    job, settings, start, data = run.job, run.job.settings, run.start, run.data
    if strategy == "fsdp" and process_count() > 1 and settings.method == "lora":
        raise Permanent("adapters are small and train with ddp; set MENDLOOP_TRAINER_STRATEGY to ddp")
    if run.course.groups is not None and process_count() > 1:
        raise Permanent(f"group_dro trains in one process, not {process_count()}; set MENDLOOP_TRAINER_PROCESSES to 1")
    step_count = data.cut.step_count
    args = training_arguments(settings, directory=points, step_count=step_count, seed=job.seed, strategy=strategy)
    padding = padding_id(start.tokenizer)
    rows, course = data.rows, run.course
    kind: type[JobTrainer] = JobTrainer
    options: dict[str, Any] = {}
    collation: Collation = RightPadding(padding_id=padding)
    if settings.packing:
        collation = Packing(padding_id=padding, max_tokens=settings.max_tokens)
    if settings.objective == "dpo":
        pairs = PairPadding(padding_id=padding)
        _moved(start.model, device=args.device)
        rows, held_out_rows = (
            with_references(start.model, some, padding=pairs, batch_size=settings.batch_size)
            for some in (data.rows, data.held_out)
        )
        course = replace(course, held_out_rows=held_out_rows)
        collation, kind, options = pairs, PreferenceTrainer, {"beta": settings.dpo_beta}
    if course.groups is not None:
        collation = GroupPadding(course.groups.groups, padding_id=padding)
        _moved(start.model, device=args.device)
        kind, options = GroupDroTrainer, {"weights": course.groups}
        if not course.groups.references:
            course.groups.begin(_group_losses(run, start.model, weights=course.groups))
    model = with_adapters(start.model, settings, seed=job.seed) if settings.method == "lora" else start.model
    return _built(
        kind,
        model=model,
        args=args,
        data=OrderedRows(rows, order=data.order),
        collation=collation,
        course=course,
        watch=watch,
        points=points,
        save_steps=settings.save_steps,
        **options,
    )


def _group_losses(run: _Run, model: Any, *, weights: GroupWeights) -> list[float]:
    """The model's loss on a sample of each group."""
    padding = RightPadding(padding_id=padding_id(run.start.tokenizer))
    size = run.job.settings.batch_size
    return measured(model, run.data.rows, groups=weights.groups, padding=padding, size=size)


def _moved(model: torch.nn.Module, *, device: torch.device) -> None:
    model.to(device)


def _built(kind: type[JobTrainer], **options: Any) -> JobTrainer:
    return kind(**options)


def _train(run: _Run, *, trainer: JobTrainer, point: ResumePoint | None, points: Path) -> None:
    """Run the steps that are left."""
    step_count, settings = run.data.cut.step_count, run.job.settings
    facts = {"job_id": run.job.job_id, "from_step": point.step if point else 0, "steps": step_count}
    log.info("training starts", extra={**facts, "method": settings.method, "objective": settings.objective})
    if settings.warmup_steps >= step_count:
        log.warning("the warm-up never ends", extra={**facts, "warmup_steps": settings.warmup_steps})
    done = point.step if point else 0
    run.device.is_over = from_first(run.device.is_spent)
    try:
        done = done if run.device.is_over else trainer.run(point)
    except Diverged as error:
        forget_points(points)  # the same steps would diverge again
        raise TrainingFailed(run.failure(str(error), cause=error.cause, step=error.step)) from error
    except Permanent:
        forget_points(points)
        raise
    if run.device.is_over and done < step_count and not run.course.held_out.reason_to_stop():
        forget_points(points)
        raise TrainingFailed(run.spent(step=done))
    if done < step_count and not run.course.held_out.reason_to_stop():
        raise Interrupted(
            f"training {run.job.job_id} stopped after step {done} of {step_count}; its resume point is kept"
        )


def _save(run: _Run, *, trainer: JobTrainer, directory: Path) -> None:
    """Write the whole checkpoint, and the adapter beside it where there is one; every process has to call it.

    The weights are those of the last step, or of the lowest held-out loss where the training may stop early.
    """
    trained: Any = trainer.model
    gathered = trainer.whole_weights()
    if not is_first():
        return
    best = run.course.best
    if best is not None and best.weights and gathered is None:
        best.put_into(trained)
    elif best is not None and best.weights:
        gathered = best.weights
    if isinstance(trained, PeftModel):
        save_adapter(trained, directory=directory)
        trained = merged(trained)
    save_trained(replace(run.start, model=trained), directory=directory, weights=gathered)
