"""The closed list of causes, each with the share of a sample's failures that it explains, at least and at most.

Knows causes and evidence; names no model and no task.
"""

from __future__ import annotations

from collections.abc import Callable

from mendloop.diagnostician.domain import data_causes, evaluation_causes, training_causes
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Table
from mendloop.diagnostician.domain.explained import Explained, bounded, right_with_steps
from mendloop.diagnostician.domain.training_causes import LABELLED_SHARE

Explanation = Callable[[Table], Explained]

RULES: dict[Cause, Explanation] = {
    Cause.SCORER_BUG: evaluation_causes.scorer_bug,
    Cause.EXTRACTION_FAILURE: evaluation_causes.extraction_failure,
    Cause.TRUNCATION: evaluation_causes.truncation,
    Cause.EOS_MASKED: training_causes.eos_masked,
    Cause.LABEL_MASK_WRONG: training_causes.label_mask_wrong,
    Cause.DIVERGED_OR_UNDERTRAINED: training_causes.diverged,
    Cause.DATA_MISSING: data_causes.uncovered,
    Cause.DATA_SKEW: data_causes.rare,
}
"""The causes that the judge by rule decides, in the order that breaks ties: what is cheapest to repair first."""

EXPLANATIONS: dict[Cause, Explanation] = {
    Cause.SCORER_BUG: evaluation_causes.scorer_bug,
    Cause.EXTRACTION_FAILURE: evaluation_causes.extraction_failure,
    Cause.BENCHMARK_LABEL_ERROR: evaluation_causes.benchmark_label_error,
    Cause.TRUNCATION: evaluation_causes.truncation,
    Cause.PROMPT_FORMAT: evaluation_causes.prompt_format,
    Cause.EOS_MASKED: training_causes.eos_masked,
    Cause.LABEL_MASK_WRONG: training_causes.label_mask_wrong,
    Cause.TEMPLATE_MISMATCH: training_causes.template_mismatch,
    Cause.DIVERGED_OR_UNDERTRAINED: training_causes.diverged,
    Cause.FORGETTING: training_causes.forgetting,
    Cause.CAPACITY: training_causes.capacity,
    Cause.DATA_CORRUPTED: data_causes.data_corrupted,
    Cause.CONTAMINATION: data_causes.contamination,
    Cause.PHRASING_MISMATCH: data_causes.phrasing_mismatch,
    Cause.KNOWLEDGE_GAP: data_causes.knowledge_gap,
    Cause.DATA_MISSING: data_causes.data_missing,
    Cause.DATA_SKEW: data_causes.data_skew,
    Cause.REASONING_GAP: data_causes.reasoning_gap,
}
"""Every cause but UNKNOWN, in the same order."""

ANSWERED = (
    Cause.BENCHMARK_LABEL_ERROR,
    Cause.TRUNCATION,
    Cause.PROMPT_FORMAT,
    Cause.EOS_MASKED,
    Cause.LABEL_MASK_WRONG,
    Cause.TEMPLATE_MISMATCH,
    Cause.DIVERGED_OR_UNDERTRAINED,
    Cause.FORGETTING,
    Cause.CAPACITY,
)
"""What cannot be why an item fails that the same checkpoint answers right, in the same words and under the same limit,
once it is asked for the steps: its target can be met, its question is read, and its answer was learnt."""

__all__ = ["EXPLANATIONS", "LABELLED_SHARE", "RULES", "Explained", "Explanation", "explain"]


def explain(table: Table) -> dict[Cause, Explained]:
    """Every cause with its interval, as one sample shows it."""
    found = {cause: explanation(table) for cause, explanation in EXPLANATIONS.items()}
    answered = right_with_steps(table)
    return found | {cause: bounded(found[cause], answered) for cause in ANSWERED}
