"""Runs one training job with the Hugging Face Trainer: encode, check, train, save, report. Full fine-tuning.

Knows jobs, examples and directories; knows neither events nor the artifact store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mendloop.core.errors import Interrupted, Permanent
from mendloop.core.records import Example
from mendloop.core.training import HealthCheck, TrainingJob, TrainingReport
from mendloop.models.encoding import encode_prompts
from mendloop.trainer.adapters.collation import OrderedExamples, RightPadding
from mendloop.trainer.adapters.hf_trainer import JobTrainer, OnStep, Watch, stopwatch, training_arguments
from mendloop.trainer.adapters.labelling import labelled_examples
from mendloop.trainer.adapters.resume_points import ResumePoint, forget_points, newest_point
from mendloop.trainer.adapters.start_checkpoint import Start, load_start, padding_id, save_trained
from mendloop.trainer.domain.health import failures, health_checks
from mendloop.trainer.domain.labels import LabelledExample
from mendloop.trainer.domain.losses import LossCurve, curve_interval
from mendloop.trainer.domain.schedule import Cut, Mixture, cut_to_limit, schedule

log = logging.getLogger(__name__)
PARITY_SAMPLE = 64
FLOPS_PER_PARAMETER_AND_TOKEN = 6
"""Two for the forward pass, four for the backward pass (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)."""


@dataclass(frozen=True, slots=True)
class _Data:
    """Everything that the steps will see. order holds positions in examples, batch_size a step."""

    examples: list[LabelledExample]
    texts: list[str]
    order: list[int]
    step_tokens: list[int]
    cut: Cut


def run_job(
    job: TrainingJob,
    *,
    start_dir: Path,
    corpus: Sequence[Example],
    batch: Sequence[Example] | None,
    work_dir: Path,
    out_dir: Path,
    is_stopping: Callable[[], bool] = lambda: False,
    on_step: OnStep = lambda step, token_count: None,
    torch_threads: int = 0,
) -> TrainingReport:
    """Train the job and write the checkpoint to out_dir.

    Resume points lie in work_dir/<job_id>; a job that was killed or interrupted goes on from the newest good one, and
    on a CPU its result has the same bytes: it keeps the number of threads that it began with, because sums are cut by
    threads. The caller deletes the points (forget_points) when the result is kept. Tokens are input tokens without
    padding, those of a repeated example each time.

    Raises Permanent for unhealthy data, a token limit without a step, a start that cannot be loaded, divergence;
    Retryable on a full disk; Interrupted where is_stopping became true, after a resume point was written.
    """
    points = work_dir / job.job_id
    point = newest_point(points)
    _use_threads(int(point.progress["threads"]) if point else torch_threads)
    elapsed_s = stopwatch(float(point.progress["elapsed_s"]) if point else 0.0)
    start = load_start(start_dir)
    data = _prepared(job, start=start, corpus=corpus, batch=batch or ())
    health = _checked(job, start=start, data=data)
    curve = LossCurve(
        every=curve_interval(data.cut.step_count),
        vocabulary_size=start.model.config.vocab_size,
        state=point.progress["curve"] if point else None,
    )
    watch = Watch(is_stopping, on_step, data.step_tokens, elapsed_s)
    _train(job, start=start, data=data, curve=curve, watch=watch, point=point, points=points)
    save_trained(start, directory=out_dir)
    return TrainingReport(
        job=job,
        health=health,
        loss_curve=curve.points(),
        step_count=data.cut.step_count,
        token_count=data.cut.token_count,
        wall_s=elapsed_s(),
        flops=float(FLOPS_PER_PARAMETER_AND_TOKEN * start.model.num_parameters() * data.cut.token_count),
        stopped_early=data.cut.reason,
    )


def uses_gpu() -> bool:
    """Whether trainings of this machine run on a GPU: the Trainer takes one where there is one."""
    return torch.cuda.is_available()


def _use_threads(count: int) -> None:
    if count and count != torch.get_num_threads():
        torch.set_num_threads(count)


def _train(
    job: TrainingJob,
    *,
    start: Start,
    data: _Data,
    curve: LossCurve,
    watch: Watch,
    point: ResumePoint | None,
    points: Path,
) -> None:
    """Run the steps that are left. This is where LoRA would wrap start.model."""
    step_count = data.cut.step_count
    facts = {"job_id": job.job_id, "from_step": point.step if point else 0, "steps": step_count}
    log.info("training starts", extra=facts)
    if job.settings.warmup_steps >= step_count:
        log.warning("the warm-up never ends", extra={**facts, "warmup_steps": job.settings.warmup_steps})
    trainer = JobTrainer(
        start.model,
        args=training_arguments(job.settings, directory=points, step_count=step_count, seed=job.seed),
        data=OrderedExamples(data.examples, order=data.order),
        padding=RightPadding(padding_id=padding_id(start.tokenizer)),
        curve=curve,
        watch=watch,
        points=points,
        save_steps=job.settings.save_steps,
    )
    try:
        done = trainer.run(point)
    except Permanent:
        forget_points(points)  # the same steps would diverge again
        raise
    if done < step_count:
        raise Interrupted(f"training {job.job_id} stopped after step {done} of {step_count}; its resume point is kept")


def _prepared(job: TrainingJob, *, start: Start, corpus: Sequence[Example], batch: Sequence[Example]) -> _Data:
    """Plan the steps, encode the examples that they see, and cut the plan to the token limit."""
    settings = job.settings
    try:
        mixture = Mixture(len(corpus), len(batch), job.replay_share, settings.batch_size, job.seed)
    except ValueError as error:
        raise Permanent(str(error)) from error
    steps = schedule(mixture, step_count=settings.steps)
    seen = sorted({number for step in steps for number in step})
    rows = [corpus[number] if number < len(corpus) else batch[number - len(corpus)] for number in seen]
    texts = [job.template.format(prompt=row.prompt) for row in rows]
    examples = labelled_examples(start.tokenizer, texts, [row.completion for row in rows], settings=settings)
    position = {number: at for at, number in enumerate(seen)}
    step_tokens = [sum(len(examples[position[number]].input_ids) for number in step) for step in steps]
    cut = cut_to_limit(step_tokens, token_limit=job.token_limit)
    if not cut.step_count:
        raise Permanent(
            f"the token limit {job.token_limit} allows no step: the first one has {step_tokens[0]} tokens "
            f"({settings.batch_size} examples); raise the limit or lower batch_size"
        )
    order = [position[number] for step in steps[: cut.step_count] for number in step]
    return _Data(examples, texts, order, step_tokens[: cut.step_count], cut)


def _checked(job: TrainingJob, *, start: Start, data: _Data) -> tuple[HealthCheck, ...]:
    """The health checks. Raises Permanent with every failing reading where the settings say refuse."""
    sample = range(0, len(data.examples), max(1, len(data.examples) // PARITY_SAMPLE))
    evaluated = encode_prompts(start.tokenizer, [data.texts[at] for at in sample])
    examples = [data.examples[at] for at in sample]
    trained = [example.input_ids[: example.prompt_length] for example in examples]
    checks = health_checks(data.examples, prompts=list(zip(trained, evaluated, strict=True)))
    wrong = failures(checks)
    if wrong and job.settings.on_unhealthy == "refuse":
        raise Permanent(f"the training data is unhealthy: {wrong}; or set on_unhealthy: warn to train all the same")
    if wrong:
        log.warning("unhealthy training data, trained all the same", extra={"readings": wrong, "job_id": job.job_id})
    return checks
