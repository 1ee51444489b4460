"""How often is the verdict right? Planted faults, every family judged by a calibration that never saw it.

    python benchmarks/diagnosis.py --seeds 5 --cases DIR      plants what is not in DIR yet, measures, judges, prints
    python benchmarks/diagnosis.py --seeds 5 --cases DIR --fit   also writes the calibration that ships

Weights, thresholds and probe records come from the other families only; the held-out family chooses nothing.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import diagnosis_cases as planted
import typer
from diagnosis_cases import PlantedCase
from diagnosis_plots import draw
from diagnosis_scores import Judged, confusion, reliability, risk_coverage, summary
from diagnosis_tables import print_figures
from rich.console import Console

from mendloop.diagnostician.adapters import calibration as shipped
from mendloop.diagnostician.adapters.calibration import write_calibration
from mendloop.diagnostician.adapters.probe_set import all_probes
from mendloop.diagnostician.domain.calibrated import CalibratedJudge
from mendloop.diagnostician.domain.calibration import Calibration
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.explanations import EXPLANATIONS
from mendloop.diagnostician.domain.fitting import Known, fit
from mendloop.diagnostician.domain.probe_records import by_probe_of, probe_records
from mendloop.diagnostician.domain.probing import SAMPLING, Choose, IsClear, cheapest
from mendloop.diagnostician.domain.scheduling import InformationPerSecond
from mendloop.diagnostician.domain.verdict import Judge, is_clear, judge

RESULTS = Path(__file__).parent / "results"
OURS, STOPPED, RULE, RULES_ALL = "calibrated, all probes", "calibrated, stops when clear", "rule", "rule, all causes"
DOUBLE_WEIGHT = 3.0
"""Of six pairs of faults that are planted a seed, in about two neither hides the other: they count as the six."""
judge_all = partial(judge, rules=EXPLANATIONS)


def fitted(cases: Sequence[PlantedCase]) -> Calibration:
    """A calibration with the probes' records, from these cases alone."""
    calibration = fit([Known(case.evidence, case.causes, case.family, _weight(case)) for case in cases])
    records = probe_records([case.evidence for case in cases], CalibratedJudge(calibration), seed=0)
    seeds = sorted({case.seed for case in cases})
    families = sorted({case.family for case in cases})
    return replace(
        calibration,
        probes=records,
        provenance={
            "made_by": "benchmarks/diagnosis.py --fit",
            "case_count": len(cases),
            "families": families,
            "seeds": seeds,
            "cases_sha256": planted.hash_of(cases),
        },
    )


def _weight(case: PlantedCase) -> float:
    return DOUBLE_WEIGHT if len(case.causes) == 2 else 1.0


def judged_by(calibration: Calibration, case: PlantedCase, *, stops: bool) -> Judged:
    """The calibrated verdict on all probes, or on those that were chosen until it was clear."""
    policy = InformationPerSecond(CalibratedJudge(calibration))
    rows = _replayed(case, policy.choose, policy.is_clear) if stops else case.evidence
    eager = CalibratedJudge(replace(calibration, abstain_below=0.0))
    return _judged(case, rows, policy.judge, eager)


def ruled(case: PlantedCase, by: Judge, clear: IsClear) -> Judged:
    """The verdict by rule, cheapest probes first."""
    return _judged(case, _replayed(case, cheapest, clear), by, by)


def _judged(case: PlantedCase, rows: Sequence[Evidence], by: Judge, eager: Judge) -> Judged:
    seconds, tokens = sum(row.cost.wall_s for row in rows), sum(row.cost.token_count for row in rows)
    return Judged(case, by(rows), eager(rows), seconds, tokens)


def _replayed(case: PlantedCase, choose: Choose, clear: IsClear) -> list[Evidence]:
    """The evidence that an investigation would have gathered, in its order, from what was measured before."""
    found = by_probe_of(case.evidence)
    rows, waiting = list(found[SAMPLING]), list(all_probes())
    while waiting and not clear(rows):
        probe = choose(rows, waiting)
        waiting.remove(probe)
        rows += found.get(probe.name, [])
    return rows


def held_out(cases: Sequence[PlantedCase], *, tell: Callable[[str], None]) -> dict[str, list[Judged]]:
    """Every case judged by each way to judge; the calibrated ones are fitted on the other families."""
    found: dict[str, list[Judged]] = {name: [] for name in (OURS, STOPPED, RULE, RULES_ALL)}
    for family in sorted({case.family for case in cases}):
        own = [case for case in cases if case.family == family]
        calibration = fitted([case for case in cases if case.family != family])
        tell(f"{family}: {len(own)} cases; thresholds {calibration.abstain_below} and {calibration.also_above}")
        found[OURS] += [judged_by(calibration, case, stops=False) for case in own]
        found[STOPPED] += [judged_by(calibration, case, stops=True) for case in own]
        found[RULE] += [ruled(case, judge, is_clear) for case in own]
        found[RULES_ALL] += [ruled(case, judge_all, lambda rows: False) for case in own]
    return found


def document_of(found: dict[str, list[Judged]], *, unbitten: int) -> dict[str, object]:
    """All figures as JSON values."""
    ours = found[OURS]
    families = sorted({row.case.family for row in ours})
    stopped = zip(ours, found[STOPPED], strict=True)
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "cases": len(ours),
        "planted_without_effect": unbitten,
        "cases_sha256": planted.hash_of([row.case for row in ours]),
        "all_families": {name: summary(rows) for name, rows in found.items()},
        "by_family": {one: summary([row for row in ours if row.case.family == one]) for one in families},
        "stopping_keeps_verdict": sum(a.verdict.cause is b.verdict.cause for a, b in stopped) / len(ours),
        "confusion": confusion(ours),
        "confusion_by_family": {one: confusion([row for row in ours if row.case.family == one]) for one in families},
        "reliability": reliability(ours),
        "risk_coverage": risk_coverage(ours),
        "verdicts": [_row(row) for row in ours],
    }


def _row(row: Judged) -> dict[str, object]:
    return {
        "case": row.case.name,
        "family": row.case.family,
        "faults": list(row.case.faults),
        "severities": list(row.case.severities),
        "planted": sorted(row.case.causes),
        "verdict": row.verdict.cause,
        "also": list(row.verdict.also),
        "confidence": round(row.verdict.confidence, 4),
        "because": row.verdict.because[:400],
    }


def main(
    cases: Annotated[Path, typer.Option(help="Folder of planted cases; what is missing is planted there.")],
    seeds: Annotated[int, typer.Option(help="Seeds 0 to N-1 of every fault and family; 0 plants nothing.")] = 5,
    families: Annotated[str, typer.Option(help="Task families, with commas.")] = "scan,modular,facts",
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    fit_shipped: Annotated[bool, typer.Option("--fit", help="Write the calibration that ships.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for diagnosis.json and the plots.")] = RESULTS,
) -> None:
    """Plant, measure, judge leave-one-family-out, print and write the figures."""
    console, cache = Console(width=170), cases / "evidence"
    if seeds:
        _plant(cases, families=families.split(","), seeds=seeds, workers=workers, tell=console.print)
    for name, seconds, failed in planted.measure(cases, cache=cache, workers=workers):
        console.print(f"{name}: {seconds:.1f} s {failed}")
    known = [case for case in planted.read(cases, cache=cache) if not seeds or case.seed < seeds]
    unbitten = sum(not planted.bites(folder) for folder in planted.folders(cases))
    console.print(f"{len(known)} cases with evidence; {unbitten} planted faults did not make their slice fail")
    found = held_out(known, tell=console.print)
    document = document_of(found, unbitten=unbitten)
    print_figures(document, console=console)
    out.mkdir(parents=True, exist_ok=True)
    (out / "diagnosis.json").write_text(json.dumps(document, indent=1, default=str) + "\n")
    draw(document, out)
    if fit_shipped:
        path = Path(shipped.__file__).with_name(shipped.SHIPPED)
        write_calibration(fitted(known), path)
        console.print(f"{path.name} written from {len(known)} cases")


def _plant(root: Path, *, families: Sequence[str], seeds: int, workers: int, tell: Callable[[str], None]) -> None:
    """Plant every fault and some pairs that are not there yet."""
    from mendloop.examples.faults.many import pair_specs, plant_many, single_specs

    chosen = range(seeds)
    specs = [*single_specs(families, seeds=chosen), *pair_specs(families, seeds=chosen)]
    plant_many(specs, root, workers=workers, on_done=lambda spec, done: tell(f"{spec.name}: {done.wall_s:.1f} s"))


if __name__ == "__main__":
    typer.run(main)
