"""Outcomes of a plan's evaluation, made by its checkpoint. Knows models and scorers; knows no fault by name."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mendloop.core.records import Outcome
from mendloop.core.tasks import find_task
from mendloop.evaluator.domain.scoring import outcome_of
from mendloop.examples.faults.plan import Plan
from mendloop.models.generation import Generation
from mendloop.models.transformers_backend import load_model

BATCH_ROWS = 128


def evaluate(plan: Plan, directory: Path) -> list[Outcome]:
    """One outcome an item, with the plan's prompts, targets, scorer and token limit and the family's template."""
    task = find_task(plan.family.traits.task_name, plan.task_options)
    model = load_model(directory, batch_rows=BATCH_ROWS)
    prompts = [plan.family.traits.template.format(prompt=item.prompt) for item in plan.items]
    outputs = model.generate(prompts, max_new_tokens=plan.max_new_tokens, stop=task.stop_strings)
    logprobs = model.logprobs(prompts, [item.target for item in plan.items])
    told = _flaky(outputs, share=plan.flaky_share, seed=plan.seed)
    rows = zip(plan.items, told, logprobs, strict=True)
    return [
        replace(outcome_of(item, generation=output, logprobs=logprob, task=task), latency_s=0.0)
        for item, output, logprob in rows
    ]


def _flaky(outputs: Sequence[Generation], *, share: float, seed: int) -> list[Generation]:
    """A random share of outputs, each with its place taken by the one that was drawn before it."""
    rng = random.Random(f"flaky/{seed}")
    chosen = rng.sample(range(len(outputs)), round(share * len(outputs)))
    moved = list(outputs)
    for at, source in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        moved[at] = outputs[source]
    return moved
