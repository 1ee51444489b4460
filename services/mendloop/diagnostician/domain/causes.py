"""The closed list of causes and the family that has to act. Mirrors the names of the protobuf enums without them."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """Who has to act."""

    DATA = "DATA"
    TRAINING = "TRAINING"
    EVALUATION = "EVALUATION"
    OTHER = "OTHER"


class Cause(StrEnum):
    """Why a slice is weak; UNKNOWN means that the diagnostician abstains."""

    UNKNOWN = "UNKNOWN"
    DATA_MISSING = "DATA_MISSING"
    DATA_SKEW = "DATA_SKEW"
    KNOWLEDGE_GAP = "KNOWLEDGE_GAP"
    REASONING_GAP = "REASONING_GAP"
    DATA_CORRUPTED = "DATA_CORRUPTED"
    PHRASING_MISMATCH = "PHRASING_MISMATCH"
    CONTAMINATION = "CONTAMINATION"
    EOS_MASKED = "EOS_MASKED"
    LABEL_MASK_WRONG = "LABEL_MASK_WRONG"
    TEMPLATE_MISMATCH = "TEMPLATE_MISMATCH"
    DIVERGED_OR_UNDERTRAINED = "DIVERGED_OR_UNDERTRAINED"
    FORGETTING = "FORGETTING"
    SCORER_BUG = "SCORER_BUG"
    EXTRACTION_FAILURE = "EXTRACTION_FAILURE"
    TRUNCATION = "TRUNCATION"
    PROMPT_FORMAT = "PROMPT_FORMAT"
    BENCHMARK_LABEL_ERROR = "BENCHMARK_LABEL_ERROR"
    CAPACITY = "CAPACITY"


_MEMBERS = {
    Family.DATA: (
        Cause.DATA_MISSING,
        Cause.DATA_SKEW,
        Cause.KNOWLEDGE_GAP,
        Cause.REASONING_GAP,
        Cause.DATA_CORRUPTED,
        Cause.PHRASING_MISMATCH,
        Cause.CONTAMINATION,
    ),
    Family.TRAINING: (
        Cause.EOS_MASKED,
        Cause.LABEL_MASK_WRONG,
        Cause.TEMPLATE_MISMATCH,
        Cause.DIVERGED_OR_UNDERTRAINED,
        Cause.FORGETTING,
    ),
    Family.EVALUATION: (
        Cause.SCORER_BUG,
        Cause.EXTRACTION_FAILURE,
        Cause.TRUNCATION,
        Cause.PROMPT_FORMAT,
        Cause.BENCHMARK_LABEL_ERROR,
    ),
    Family.OTHER: (Cause.UNKNOWN, Cause.CAPACITY),
}
_FAMILY = {cause: family for family, causes in _MEMBERS.items() for cause in causes}


def family_of(cause: Cause) -> Family:
    """The family that a cause belongs to."""
    return _FAMILY[cause]
