"""What to do about a verdict: data, a repaired setting, or nothing. Knows settings' names, not who applies them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mendloop.core.fixes import Fix
from mendloop.diagnostician.domain.case import SAMPLE_NAMES, Training
from mendloop.diagnostician.domain.causes import Cause, Family
from mendloop.diagnostician.domain.evidence import Evidence, Table
from mendloop.diagnostician.domain.training_causes import LABELLED_SHARE
from mendloop.diagnostician.domain.verdict import Verdict

MORE_STEPS = 2
"""An undertrained job is repeated with twice the steps: the loss shows after that whether more would help."""
LOWER_RATE = 3
"""A diverged job is repeated with a third of the learning rate, about half an order of magnitude."""


class Kind(StrEnum):
    """Mirrors the names of the protobuf enum."""

    DATA = "DATA"
    TRAINING_FIX = "TRAINING_FIX"
    EVALUATION_FIX = "EVALUATION_FIX"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class Intervention:
    """One proposal with its reason."""

    kind: Kind
    fixes: tuple[Fix, ...]
    rationale: str


def propose(verdict: Verdict, evidence: Sequence[Evidence], *, training: Training | None) -> tuple[Intervention, ...]:
    """Interventions for a verdict, best first; never empty."""
    table = Table(evidence, sample=SAMPLE_NAMES[0])
    if verdict.cause is Cause.DATA_CORRUPTED:
        why = "Labels of the slice are wrong in the corpus: repair or remove them (curation.repair) and add examples."
        return (Intervention(Kind.DATA, (), why),)
    if verdict.family is Family.DATA:
        return (Intervention(Kind.DATA, (), "The training data lacks the slice: add examples of it."),)
    match verdict.cause:
        case Cause.EOS_MASKED:
            return (_repeat("eos_in_loss", True, "The model never learnt to stop: put EOS back into the loss."),)
        case Cause.LABEL_MASK_WRONG:
            return (_unmask(table),)
        case Cause.DIVERGED_OR_UNDERTRAINED:
            return (_train_on(training),)
        case Cause.TRUNCATION:
            return (_longer(table),)
        case Cause.SCORER_BUG | Cause.EXTRACTION_FAILURE:
            return (_nothing("No setting repairs this: repair the scorer and measure the same checkpoint again."),)
    return (_nothing("The evidence singles out no cause: a person has to look."),)


def _nothing(rationale: str) -> Intervention:
    return Intervention(Kind.NONE, (), rationale)


def _repeat(setting: str, value: object, rationale: str) -> Intervention:
    return Intervention(Kind.TRAINING_FIX, (Fix(f"train.{setting}", json.dumps(value)),), rationale)


def _unmask(table: Table) -> Intervention:
    answer = table.get("label_audit", "answer_in_loss")
    if answer and answer.high < LABELLED_SHARE:
        return _nothing(f"{answer.reading} No setting repairs that: look at how the labels are made.")
    return _repeat("prompt_in_loss", False, "Prompt tokens carried loss and answers were not learnt: mask the prompts.")


def _train_on(training: Training | None) -> Intervention:
    if training is None:
        return _nothing("The model does not fit its corpus and there is no training report to repeat from.")
    losses = [loss for _, loss in training.loss_curve]
    rate, steps = training.settings.learning_rate, training.settings.steps
    if losses and (not all(map(math.isfinite, losses)) or losses[-1] > losses[0]):
        ends = f"{losses[0]:.3g} to {losses[-1]:.3g} nats"
        return _repeat("learning_rate", rate / LOWER_RATE, f"Training loss went from {ends}: lower the learning rate.")
    return _repeat("steps", steps * MORE_STEPS, f"The model does not fit its corpus after {steps} steps: train longer.")


def _longer(table: Table) -> Intervention:
    budget = table.get("longer_budget", "rescuing_budget")
    if budget is None:
        return _nothing("Outputs are cut off and no tried budget was enough: raise suite.max_new_tokens by hand.")
    fix = Fix("suite.max_new_tokens", json.dumps(int(budget.value)))
    return Intervention(Kind.EVALUATION_FIX, (fix,), f"{budget.reading} Measure the same checkpoint with it.")
