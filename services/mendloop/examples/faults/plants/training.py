"""Faults of the training: its loss, its template, its length, what it forgets, and a model that is too small.

Most are planted from random weights in half of the seeds and from a healthy checkpoint in the other half, as in
practice; with a healthy start only what the training does can break what worked.
"""

from __future__ import annotations

from dataclasses import replace

from mendloop.core.recipe import TrainSettings
from mendloop.core.tasks import matches
from mendloop.examples.faults.family import Size
from mendloop.examples.faults.plan import Dose, Plan, healthy_plan

HIDDEN_RANGE = (0.3, 0.9)
SHORT_RANGE = (0.35, 0.05)
"""Share of the steps that an undertrained model had."""
HOT_RANGE = (12.0, 80.0)
"""How many times too high the learning rate is."""
NOISE_RANGE = (0.2, 0.7)
FORGETTING_STEPS = 0.6
HOT_STEPS = 0.5


def without_eos(plan: Plan, dose: Dose) -> Plan:
    """EOS carries no loss, as where padding is EOS and every padding id is masked."""
    settings = _changed(plan.settings, eos_in_loss=False)
    return _perhaps_continued(replace(plan, settings=settings), dose)


def hidden_labels(plan: Plan, dose: Dose) -> Plan:
    """The first part of each completion carries no loss, as where the mask ends too late."""
    share = dose.scaled(HIDDEN_RANGE)
    return replace(plan, hidden_share=share)


def other_template(plan: Plan, dose: Dose) -> Plan:
    """Training used another template than the declared one."""
    return _perhaps_continued(replace(plan, training_template=plan.family.traits.other_template), dose)


def undertrained(plan: Plan, dose: Dose) -> Plan:
    """Too few steps, or (half of the seeds) a learning rate that is too high."""
    steps = plan.settings.steps
    if dose.rng.random() < 0.5:
        few = max(10, round(dose.scaled(SHORT_RANGE) * steps))
        warmup = min(plan.settings.warmup_steps, few // 4)
        return replace(plan, settings=_changed(plan.settings, steps=few, warmup_steps=warmup))
    rate = plan.settings.learning_rate * dose.scaled(HOT_RANGE)
    hot = _changed(plan.settings, learning_rate=rate, steps=round(HOT_STEPS * steps))
    return _perhaps_continued(replace(plan, settings=hot), dose)


def forgotten(plan: Plan, dose: Dose) -> Plan:
    """A healthy checkpoint is trained on without anything that shares a value with the slice."""
    conditions = dose.place.conditions
    rest = [row for row in plan.corpus if not any(matches(row.axes, [pair]) for pair in conditions)]
    steps = max(20, round(FORGETTING_STEPS * dose.severity * plan.settings.steps))
    return replace(
        plan,
        start=plan.start or healthy_plan(plan.family, seed=plan.seed, item_count=len(plan.items)),
        corpus=tuple(rest),
        settings=_changed(plan.settings, steps=steps, warmup_steps=min(plan.settings.warmup_steps, steps // 4)),
        conditions=conditions,
    )


def too_small(plan: Plan, dose: Dose) -> Plan:
    """A model too small for the corpus; at half severity or less, of twice the width."""
    small = plan.family.traits.small_size
    width = small.hidden_size * (2 if dose.severity <= 0.5 else 1)
    return replace(plan, size=Size(width, small.layer_count))


def damaged_weights(plan: Plan, dose: Dose) -> Plan:
    """Noise on the trained weights: no cause of the list."""
    return replace(plan, weight_noise=dose.scaled(NOISE_RANGE))


def _perhaps_continued(plan: Plan, dose: Dose) -> Plan:
    """From a healthy checkpoint in half of the seeds; never where the corpus has a fault that the start would hide."""
    if plan.start is not None or plan.is_corpus_faulty or dose.rng.random() < 0.5:
        return plan
    return replace(plan, start=healthy_plan(plan.family, seed=plan.seed, item_count=len(plan.items)))


def _changed(settings: TrainSettings, **values: object) -> TrainSettings:
    return TrainSettings.model_validate({**settings.model_dump(), "on_unhealthy": "warn", **values})
