"""What the training report measured about the labels. Reads measured shares, never the value of a setting."""

from __future__ import annotations

from mendloop.diagnostician.domain.case import Case, Check
from mendloop.diagnostician.domain.evidence import Evidence, exact, missing
from mendloop.diagnostician.domain.probing import CostClass

NAME = "label_audit"
EOS_IN_LOSS = "eos_in_loss"
ANSWER_IN_LOSS = "answer_in_loss"
PROMPT_IN_LOSS = "prompt_in_loss"
EOS_CHECK = "eos_in_loss"
"""Health check of the report: share of examples whose EOS carried loss."""
MASK_CHECK = "label_mask"
"""Health check of the report: share of answer tokens that carried loss; fails for prompt tokens with loss, too."""


class LabelAudit:
    """Copies the health checks on labels, where the training left a report."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Share of EOS and of answer tokens with loss, and 1 where prompt tokens had loss."""
        if case.training is None:
            rows = (EOS_IN_LOSS, ANSWER_IN_LOSS, PROMPT_IN_LOSS)
            return tuple(missing(NAME, row, reading="There is no training report.") for row in rows)
        checks = {check.name: check for check in case.training.checks}
        n = case.training.example_count
        eos, mask = checks.get(EOS_CHECK), checks.get(MASK_CHECK)
        return (
            _share(EOS_IN_LOSS, eos, n=n, words="end-of-sequence tokens"),
            _share(ANSWER_IN_LOSS, mask, n=n, words="answer tokens"),
            _prompts(mask, n=n),
        )


def _share(measurement: str, check: Check | None, *, n: int, words: str) -> Evidence:
    if check is None:
        return missing(NAME, measurement, reading=f"The training report does not say how many {words} carried loss.")
    return exact(NAME, measurement, check.value, n, reading=f"{check.value:.1%} of the {words} carried training loss.")


def _prompts(mask: Check | None, *, n: int) -> Evidence:
    """A mask that fails although every answer token carried loss fails for its prompt tokens."""
    if mask is None or (not mask.passed and mask.value < 1):
        return missing(NAME, PROMPT_IN_LOSS, reading="The training report does not say whether prompts carried loss.")
    words = "no prompt tokens" if mask.passed else "prompt tokens, too,"
    return exact(NAME, PROMPT_IN_LOSS, float(not mask.passed), n, reading=f"In training {words} carried loss.")
