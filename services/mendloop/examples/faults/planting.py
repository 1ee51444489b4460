"""Plants faults: trains what is not trained yet, evaluates, and writes a case folder.

planted.json beside the case tells the truth; nothing that diagnoses reads it.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mendloop.core.events import stable_hash
from mendloop.core.records import Outcome
from mendloop.core.stats import Interval, clopper_pearson
from mendloop.core.tasks import Conditions, matches
from mendloop.diagnostician.adapters.case_folder import write_case
from mendloop.diagnostician.domain.verdict import MIN_FAILURES
from mendloop.diagnostician.domain.weak_slices import weak_slices
from mendloop.examples.faults.family import Family
from mendloop.examples.faults.hiding import hidden_side
from mendloop.examples.faults.measuring import evaluate
from mendloop.examples.faults.plan import Plan
from mendloop.examples.faults.planning import Planned, Spec, plan_faults
from mendloop.examples.faults.workshop import Made, Workshop, one_thread

PLANTED_FILE = "planted.json"
MOST_RIGHT = 0.7
"""A plant bites where its slice is right at most this often, with as many failures as a verdict needs."""
LEAST_HEALTHY = 0.8
MOST_SPOILT = 0.1
"""Most accuracy that the items outside a fault's slice may lose."""
MOST_RETRIES = 2
REPORT_SHARE = 0.5
WEAK_BELOW, MIN_ITEMS = 0.8, 20

OnStage = Callable[[str], None]
"""Told what is done next."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What a planting left behind: the truth beside the case."""

    family: str
    faults: tuple[Mapping[str, object], ...]
    seed: int
    conditions: Conditions
    n: int
    """Items of the slice."""
    correct: int
    healthy_correct: int
    """Of the healthy model on the same items under the healthy evaluation."""
    rest_accuracy: float
    """Of the items that share no value with the slice; 1 where there are none."""
    bites: bool
    why_not: str
    """Why it does not bite; empty where it does."""
    attempt: int
    """How often a training was repeated because it failed by itself."""
    wall_s: float
    sha: str

    @property
    def accuracy(self) -> float:
        """Of the slice."""
        return self.correct / self.n

    @property
    def accuracy_interval(self) -> Interval:
        """Its exact 95 % interval."""
        return clopper_pearson(self.correct, self.n)

    @property
    def healthy_accuracy(self) -> float:
        """Before the faults."""
        return self.healthy_correct / self.n


def plant(
    family: Family,
    spec: Spec,
    *,
    out_dir: Path,
    cache: Path,
    on_stage: OnStage = lambda stage: None,
) -> Planted:
    """Plant the spec's faults and write the case folder; one that holds the same world is kept.

    cache keeps healthy checkpoints: a fault of the evaluation trains nothing. A training whose fault lies in one slice
    but which fails outside too has failed by itself, and is repeated from other random weights. Raises InvalidRecipe
    where a fault does not suit the family.
    """
    planned = plan_faults(family, spec)
    kept = read_planted(out_dir)
    if kept is not None and kept.sha == planned.plan.sha:
        return kept
    with one_thread():
        return _plant(planned, spec, out_dir=out_dir, cache=cache, on_stage=on_stage)


def _plant(planned: Planned, spec: Spec, *, out_dir: Path, cache: Path, on_stage: OnStage) -> Planted:
    started = time.monotonic()
    shutil.rmtree(out_dir, ignore_errors=True)
    workshop = Workshop(cache, on_stage=on_stage)
    healthy = workshop.healthy_scores(planned.healthy)
    plan = planned.plan
    while True:
        with TemporaryDirectory(prefix="mendloop-fault-") as scratch:
            made = workshop.checkpoint(plan, scratch=Path(scratch), keeps=planned.healthy)
            on_stage("evaluating")
            outcomes = evaluate(plan, made.directory)
            found = _found(planned, outcomes, healthy=healthy)
            if not found.why_not and len(planned.faults) > 1:
                on_stage("looking whether one fault hides the other")
                found = replace(found, hidden=_hidden(planned, plan, outcomes, found, made, workshop))
            if not found.is_spoilt or plan.attempt >= MOST_RETRIES or made.is_kept:
                _write(plan, spec, outcomes, found.conditions, out_dir=out_dir, made=made)
                break
        plan = plan.retried()
    planted = _planted(planned, found, attempt=plan.attempt, wall_s=time.monotonic() - started)
    (out_dir / PLANTED_FILE).write_text(json.dumps(asdict(planted), indent=1) + "\n")
    return planted


def read_planted(folder: Path) -> Planted | None:
    """What was planted in a folder; None where no planting was finished there, or one that another version told."""
    path = folder / PLANTED_FILE
    if not path.is_file():
        return None
    document = json.loads(path.read_text())
    if document.keys() != {entry.name for entry in fields(Planted)}:
        return None
    conditions = tuple((axis, value) for axis, value in document["conditions"])
    return Planted(**{**document, "faults": tuple(document["faults"]), "conditions": conditions})


def _where(plan: Plan, outcomes: Sequence[Outcome]) -> Conditions:
    """The slice of the faults, or where a fault of the whole suite shows: everywhere, or in the weakest slice."""
    if plan.conditions is not None:
        return plan.conditions
    if sum(row.is_correct for row in outcomes) <= MOST_RIGHT * len(outcomes):
        return ()
    return weak_slices(outcomes, weak_below=WEAK_BELOW, min_items=MIN_ITEMS)[0]


@dataclass(frozen=True, slots=True)
class _Found:
    conditions: Conditions
    n: int
    correct: int
    healthy_correct: int
    rest_accuracy: float
    is_spoilt: bool
    """Whether a fault of one slice failed the others too."""
    hidden: str = ""
    """Which of two faults causes too few of the failures alone."""

    @property
    def why_not(self) -> str:
        if self.is_spoilt:
            return "the items outside the slice fail too: the training failed by itself"
        if self.healthy_correct < LEAST_HEALTHY * self.n:
            return "the healthy model is no better there"
        if self.n - self.correct < MIN_FAILURES:
            return f"fewer than {MIN_FAILURES} failures"
        if self.correct > MOST_RIGHT * self.n:
            return f"more than {MOST_RIGHT:.0%} of the slice is right"
        return self.hidden


def _found(planned: Planned, outcomes: Sequence[Outcome], *, healthy: Mapping[str, float]) -> _Found:
    conditions = _where(planned.plan, outcomes)
    inside = [row for row in outcomes if matches(row.axes, conditions)]
    rest = [row for row in outcomes if conditions and not any(matches(row.axes, [pair]) for pair in conditions)]
    rest_accuracy = sum(row.is_correct for row in rest) / len(rest) if rest else 1.0
    healthy_rest = sum(healthy[row.item_id] >= 1 for row in rest) / len(rest) if rest else 1.0
    return _Found(
        conditions,
        n=len(inside),
        correct=sum(row.is_correct for row in inside),
        healthy_correct=sum(healthy[row.item_id] >= 1 for row in inside),
        rest_accuracy=rest_accuracy,
        is_spoilt=planned.is_local and rest_accuracy < healthy_rest - MOST_SPOILT,
    )


def _hidden(
    planned: Planned, plan: Plan, outcomes: Sequence[Outcome], found: _Found, made: Made, workshop: Workshop
) -> str:
    failed = {row.item_id for row in outcomes if not row.is_correct and matches(row.axes, found.conditions)}
    healthy_checkpoint = workshop.kept(planned.healthy).directory
    return hidden_side(plan, planned.healthy, failed, checkpoint=made.directory, healthy_checkpoint=healthy_checkpoint)


def _planted(planned: Planned, found: _Found, *, attempt: int, wall_s: float) -> Planted:
    return Planted(
        family=planned.plan.family.traits.name,
        faults=planned.faults,
        seed=planned.plan.seed,
        conditions=found.conditions,
        n=found.n,
        correct=found.correct,
        healthy_correct=found.healthy_correct,
        rest_accuracy=found.rest_accuracy,
        bites=not found.why_not,
        why_not=found.why_not,
        attempt=attempt,
        wall_s=round(wall_s, 2),
        sha=planned.plan.sha,
    )


def _write(
    plan: Plan, spec: Spec, outcomes: Sequence[Outcome], conditions: Conditions, *, out_dir: Path, made: Made
) -> None:
    """The case as somebody would hold it: half of the cases have no training report."""
    traits = plan.family.traits
    has_report = random.Random(stable_hash("report", spec.name)).random() < REPORT_SHARE
    write_case(
        out_dir,
        task_name=traits.task_name,
        task_options=plan.task_options,
        template=traits.template,
        suite={"axes": list(traits.axes), "max_new_tokens": plan.max_new_tokens},
        conditions=conditions,
        outcomes=outcomes,
        items=plan.items,
        corpus=plan.corpus,
        model=made.directory,
        start=made.start,
        training_report=made.report if has_report else None,
    )
