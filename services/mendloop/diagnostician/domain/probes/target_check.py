"""Are the items' own targets right? Asks the family's verifier; asks no model.

A verifier says False also where it cannot tell. An item counts only where the verifier accepts some answer to it: its
target, the output, the right steps where the family knows them, or the target or output of another failed item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mendloop.core.task_hooks import Stepwise
from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.evidence import Evidence, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "target_check"
WRONG = "wrong_target_share"
VERIFIED = "verified_output_share"


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the verifier says about one failed item; right is an answer that it accepts, empty where it knows none."""

    row: Observation
    is_target_right: bool
    is_output_right: bool
    right: str


class TargetCheck:
    """Compares the verifier with the item's target and with the output that was scored as wrong."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample, of the failed items that the verifier can judge: targets refuted, outputs accepted."""
        others = {
            text: None for sample in case.samples for row in sample.failed for text in (row.item.target, _output(row))
        }
        return tuple(evidence for sample in case.samples for evidence in _rows(case, sample, list(others)))


def _output(row: Observation) -> str:
    return row.outcome.output.strip()


def _rows(case: Case, sample: Sample, others: list[str]) -> Iterator[Evidence]:
    checked = [one for row in sample.failed if (one := _check(case, row, others)).right]
    n, total = len(checked), len(sample.failed)
    wrong = [one for one in checked if not one.is_target_right]
    accepted = [one for one in checked if one.is_output_right]
    cannot = "" if n == total else f" ({total - n} failed items it cannot judge)"
    if not n:
        nothing = f"The verifier accepts no known answer to any of {total} failed items: it cannot judge them."
        yield share(NAME, WRONG, 0, 0, sample=sample.name, reading=nothing)
        yield share(NAME, VERIFIED, 0, 0, sample=sample.name, reading=nothing)
        return
    reading = f"The verifier refutes the target of {len(wrong)} of {n} failed items{cannot}{_example(wrong)}."
    yield share(NAME, WRONG, len(wrong), n, sample=sample.name, reading=reading)
    reading = f"The verifier accepts {len(accepted)} of {n} outputs that were scored as wrong{cannot}."
    yield share(NAME, VERIFIED, len(accepted), n, sample=sample.name, reading=reading)


def _check(case: Case, row: Observation, others: list[str]) -> _Checked:
    prompt, verify = row.item.prompt, case.task.verify
    target, output = verify(prompt, row.item.target), bool(_output(row)) and verify(prompt, _output(row))
    if target or output:
        return _Checked(row, target, output, row.item.target if target else _output(row))
    steps = "".join(case.task.worked_steps(row.item)) if isinstance(case.task, Stepwise) else ""
    known = (text for text in (steps, *others) if text and verify(prompt, text))
    return _Checked(row, False, False, next(known, ""))


def _example(wrong: list[_Checked]) -> str:
    if not wrong:
        return ""
    item = wrong[0].row.item
    return f", e.g. {item.prompt!r}: it says {item.target!r}, right is {wrong[0].right!r}"
