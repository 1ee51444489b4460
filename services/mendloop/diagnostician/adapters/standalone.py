"""A diagnosis without a run: cases in, verdicts as JSON values out. The same probes and judge as the service's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mendloop.core.stats import clopper_pearson
from mendloop.core.tasks import Conditions, matches
from mendloop.diagnostician.adapters.case_folder import CaseContents
from mendloop.diagnostician.domain.case import Case, first_draws
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.interventions import Intervention, propose
from mendloop.diagnostician.domain.mode_evidence import modes_of
from mendloop.diagnostician.domain.probing import Choose, Findings, IsClear, Probe, cheapest, investigate
from mendloop.diagnostician.domain.verdict import Judge, Verdict

Document = dict[str, Any]
FAILURES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """One slice with everything that was found out about it."""

    case: Case
    findings: Findings
    verdict: Verdict
    interventions: tuple[Intervention, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a diagnosis is made with. is_clear says when probing may stop."""

    probes: Sequence[Probe]
    judge: Judge
    is_clear: IsClear
    choose: Choose = cheapest
    clock: Callable[[], float] = time.monotonic


def diagnose(case: Case, *, bench: Bench) -> Diagnosed:
    """Probe one case and judge it."""
    findings = investigate(case, bench.probes, is_clear=bench.is_clear, clock=bench.clock, choose=bench.choose)
    verdict = bench.judge(findings.evidence)
    _, modes = modes_of(case)
    findings = replace(findings, evidence=(*findings.evidence, modes))
    return Diagnosed(case, findings, verdict, propose(verdict, findings.evidence, training=case.training))


def as_document(diagnosed: Diagnosed, *, contents: CaseContents) -> Document:
    """The verdict as `report.verdicts.verdict_document` gives it, with n, accuracy, cost and failures to look at."""
    case, verdict, findings = diagnosed.case, diagnosed.verdict, diagnosed.findings
    rows = [row for row in first_draws(contents.outcomes).values() if matches(row.axes, case.conditions)]
    correct = sum(row.is_correct for row in rows)
    return {
        "round": None,
        "slice": slice_words(case.conditions),
        "n": len(rows),
        "accuracy": correct / len(rows),
        "accuracy_interval": list(clopper_pearson(correct, len(rows))),
        "failed_count": case.failed_count,
        "cause": verdict.cause.value,
        "also": [cause.value for cause in verdict.also],
        "family": verdict.family.value.lower(),
        "confidence": verdict.confidence,
        "summary": verdict.because,
        "scores": {cause.value: score for cause, score in verdict.scores.items()},
        "interventions": [_intervention(one) for one in diagnosed.interventions],
        "evidence": [_evidence(row) for row in findings.evidence],
        "skipped": list(findings.skipped),
        "wall_s": findings.cost.wall_s,
        "token_count": findings.cost.token_count,
        "failures": _failures(case),
    }


def slice_words(conditions: Conditions) -> str:
    """A slice in words."""
    return " ∧ ".join(f"{axis}={value}" for axis, value in conditions) or "all items"


def _intervention(one: Intervention) -> Document:
    fixes = [f"{fix.setting}={fix.value_json}" for fix in one.fixes]
    return {"kind": one.kind.value.lower(), "fixes": fixes, "rationale": one.rationale}


def _evidence(row: Evidence) -> Document:
    return {
        "probe": row.probe,
        "measurement": f"{row.measurement}[{row.sample}]" if row.sample else row.measurement,
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "n": row.n,
        "reading": row.reading,
        "wall_s": row.cost.wall_s,
        "attachment": asdict(row.attachment) if row.attachment else None,
    }


def _failures(case: Case) -> list[Document]:
    rows = [row for sample in case.samples for row in sample.failed[: FAILURES_SHOWN // 2]]
    return [{"prompt": row.item.prompt, "output": row.outcome.output, "target": row.item.target} for row in rows]
