"""A short training loop in plain torch, for the many small trainings of planted faults.

AdamW, linear warm-up and decay, clipped gradients as in the trainer; without its resume points and its seconds of
preparation. Knows examples and directories. Shapes: B examples, L tokens of the longest one in the batch.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example
from mendloop.core.training import HealthCheck
from mendloop.models.encoding import encode_prompts
from mendloop.trainer.adapters.collation import RightPadding
from mendloop.trainer.adapters.labelling import labelled_examples
from mendloop.trainer.adapters.start_checkpoint import Start, load_start, padding_id, save_trained
from mendloop.trainer.domain.health import health_checks
from mendloop.trainer.domain.labels import IGNORED, LabelledExample
from mendloop.trainer.domain.losses import curve_interval

BETAS = (0.9, 0.98)
"""A second moment that forgets in 50 steps: these trainings have a few hundred."""
MAX_NORM = 1.0
SORTED_BATCHES = 8
"""Batches among which examples are sorted by length: little padding, and the order stays random."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training was and did. loss_curve holds (step, mean loss in nats per labelled token)."""

    settings: TrainSettings
    template: str
    health: tuple[HealthCheck, ...]
    loss_curve: tuple[tuple[int, float], ...]
    step_count: int
    token_count: int
    """Input tokens without padding."""
    wall_s: float

    def document(self) -> dict[str, object]:
        """The training report as JSON values."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "template": self.template,
            "health": [asdict(check) for check in self.health],
            "loss_curve": [list(point) for point in self.loss_curve],
            "step_count": self.step_count,
            "token_count": self.token_count,
            "wall_s": self.wall_s,
        }


def train(
    start_dir: Path,
    out_dir: Path,
    *,
    examples: Sequence[Example],
    template: str,
    settings: TrainSettings,
    seed: int,
    hidden_share: float = 0.0,
) -> Trained:
    """Train the checkpoint in start_dir on the examples and write the result to out_dir.

    hidden_share is the share of each completion's tokens, from its first one, that carry no loss. The health checks
    are reported and refuse nothing. Training ends at a loss that is no number. The same arguments give the same bytes
    on one machine with the same number of threads.
    """
    started = time.monotonic()
    start = load_start(start_dir)
    prompts = [template.format(prompt=example.prompt) for example in examples]
    completions = [example.completion for example in examples]
    rows = labelled_examples(start.tokenizer, prompts, completions, settings=settings)
    if hidden_share:
        rows = [_hidden(row, share=hidden_share) for row in rows]
    parity = zip(
        [row.input_ids[: row.prompt_length] for row in rows], encode_prompts(start.tokenizer, prompts), strict=True
    )
    health = health_checks(rows, prompts=list(parity))
    losses, token_count = _fit(start, rows, settings=settings, seed=seed)
    save_trained(start, directory=out_dir)
    wall_s = time.monotonic() - started
    return Trained(settings, template, health, _curve(losses), len(losses), token_count, wall_s)


def batches(lengths: Sequence[int], *, batch_size: int, step_count: int, seed: int) -> Iterator[list[int]]:
    """The example numbers of each step: every example once an epoch, those of a batch about equally long."""
    rng = random.Random(f"batches/{seed}")
    done = 0
    while done < step_count:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        chunk = batch_size * SORTED_BATCHES
        near = [
            sorted(order[at : at + chunk], key=lambda number: lengths[number]) for at in range(0, len(order), chunk)
        ]
        ready = [part[at : at + batch_size] for part in near for at in range(0, len(part), batch_size)]
        rng.shuffle(ready)
        for batch in ready[: step_count - done]:
            done += 1
            yield batch


def _hidden(row: LabelledExample, *, share: float) -> LabelledExample:
    """The example without loss on the first share of its completion."""
    count = math.ceil(share * (row.completion_end - row.prompt_length))
    labels = list(row.labels)
    labels[row.prompt_length : row.prompt_length + count] = [IGNORED] * count
    return replace(row, labels=tuple(labels))


def _fit(
    start: Start, rows: Sequence[LabelledExample], *, settings: TrainSettings, seed: int
) -> tuple[list[float], int]:
    """The loss of each step, and the tokens processed."""
    model, pad = start.model.train(), RightPadding(padding_id=padding_id(start.tokenizer))
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, betas=BETAS, weight_decay=settings.weight_decay, fused=True
    )
    losses: list[float] = []
    token_count = 0
    lengths = [len(row.input_ids) for row in rows]
    plan = batches(lengths, batch_size=settings.batch_size, step_count=settings.steps, seed=seed)
    for step, batch in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        padded = pad([rows[number] for number in batch])
        logits_BLV = model(padded["input_ids"][:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(
            logits_BLV.flatten(0, 1), padded["labels"][:, 1:].flatten(), ignore_index=IGNORED
        )
        losses.append(loss.item())
        token_count += sum(lengths[number] for number in batch)
        if not math.isfinite(losses[-1]):
            break
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        torch.nn.utils.clip_grad_norm_(weights, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return losses, token_count


def _rate(step: int, settings: TrainSettings) -> float:
    """Share of the peak learning rate: up from near 0 over the warm-up, then down to near 0 at the last step."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    return (settings.steps - step) / max(1, settings.steps - settings.warmup_steps)


def _curve(losses: Sequence[float]) -> tuple[tuple[int, float], ...]:
    every = curve_interval(len(losses))
    starts = range(0, len(losses), every)
    parts = [losses[at : at + every] for at in starts]
    return tuple((at + len(part), math.fsum(part) / len(part)) for at, part in zip(starts, parts, strict=True))
