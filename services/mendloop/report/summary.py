"""What a run found, did and decided, as JSON values: the content of `mend report --json` and of demo.json.

Knows run views and the training reports they point to; knows no page and no plot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mendloop.artifacts.lineage import Node, ancestry, find
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.run_spec import RunSpec
from mendloop.core.training import TrainingReport
from mendloop.report.arms import arm_documents
from mendloop.report.batches import batch_document, counts_document
from mendloop.report.trends import trends_of
from mendloop.report.verdicts import verdict_document
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import Decision, FailedTraining, Plan
from mendloop.runs.stages import seconds_by_stage, stage_times
from mendloop.runs.values import Accuracy, Fix

Document = dict[str, Any]
SHORT = 12
AXES_READ = "axes-reader-of-items"
"""Where the submission keeps how a language model read axes, by the artifact of the items."""
JUDGED = "judged"
"""Where the evaluator keeps what its detectors' verdicts are worth, by evaluation id."""


def summarize(view: RunView, *, store: ArtifactStore) -> Document:
    """Everything that a reader needs to agree or disagree with the run."""
    decision = _decision(view)
    return {
        "run_id": view.run_id,
        "recipe": view.recipe_name,
        "outcome": view.outcome or "unfinished",
        "summary": view.summary,
        "weak_below": view.recipe.weak_below if view.recipe else None,
        "margin": view.recipe.margin if view.recipe else None,
        "seconds": _seconds(view),
        "verdicts": [
            verdict_document(diagnosis, number=part.number, store=store)
            for part in view.main
            for diagnosis in part.diagnoses
        ],
        "plans": [_plan(view.run_id, part, part.plan, store=store) for part in view.main if part.plan is not None],
        "arms": arm_documents(view, store=store),
        "slices": _slices(view),
        "trends": trends_of(view, store=store),
        "judged": _judged_rows(view, store),
        "axes_read": _axes_read(view, store),
        "gate_decision": ("promoted" if decision.promoted else "rejected") if decision else "none",
        "gate_reason": decision.reason if decision else "",
        "gates": [{**asdict(gate), "slice": gate.slice.name} for gate in decision.gates] if decision else [],
        "budget": _budget(view),
        "seconds_per_stage": {stage: round(value, 2) for stage, value in seconds_by_stage(view).items()},
        "stages": list(_spans(view)),
        "cost": asdict(view.cost),
        "trainings": [_training(store, name, report) for name, report in _reports(view)],
        "checkpoint": _standing(view),
        "lineage": [_node(node) for node in _lineage(view, store)],
        "training_failures": [_training_failure(part.training_failure) for part in view.main if part.training_failure],
        "dead_letters": [f"{letter.handler}: {letter.reason}" for letter in view.dead_letters],
    }


def _standing(view: RunView) -> str:
    """SHA-256 of the checkpoint that stands: as the run ended, or as the last rollback left it."""
    stands = view.rollbacks[-1].restored if view.rollbacks else (view.finish.checkpoint if view.finish else None)
    return stands.sha256 if stands else ""


def _plan(run_id: str, part: RoundView, plan: Plan, *, store: ArtifactStore) -> Document:
    batch = part.batch
    return {
        "round": part.number,
        "kind": plan.kind,
        "rationale": plan.rationale,
        "items": [{"slice": i.slice.name, "example_count": i.example_count, "cause": i.cause} for i in plan.items],
        "fixes": [_fix(fix) for fix in plan.fixes],
        "batch": batch_document(batch, run_id=run_id, store=store) if batch else None,
        "review": _review(part),
        "reviewed": counts_document(part.reviewed) if part.reviewed else None,
    }


def _review(part: RoundView) -> Document | None:
    """What people said of the round's batch; None where nobody was asked, or nobody answered yet."""
    answer = part.review_answer
    if answer is None:
        return None
    return {
        "approved": answer.approved,
        "by": answer.approved_by,
        "reason": answer.reason,
        "example_count": part.added_count,
    }


def _fix(fix: Fix) -> str:
    return f"{fix.setting}={fix.value_json}"


def _slices(view: RunView) -> list[Document]:
    """Each slice of the first evaluation, with its accuracy on the checkpoint that was last judged."""
    measured = [part for part in view.main if part.evaluation is not None]
    if not measured or measured[0].evaluation is None:
        return []
    first, last = measured[0].evaluation, _judged(view)
    after = dict(_accuracies(last)) if last is not None and last is not measured[0] else {}
    weak = {failure.slice.slice_id for failure in measured[0].failures}
    rows = []
    for score in first.slices:
        later = after.get(score.slice.slice_id)
        rows.append(
            {
                "slice": score.slice.name,
                "is_target": score.slice.slice_id in weak,
                "n": score.accuracy.n,
                "before": _estimate(score.accuracy),
                "after": _estimate(later) if later is not None else None,
            }
        )
    everything = after.get("")
    whole = {
        "slice": "all items",
        "is_target": any(not failure.slice.conditions for failure in measured[0].failures),
        "n": first.accuracy.n,
        "before": _estimate(first.accuracy),
        "after": _estimate(everything) if everything is not None else None,
    }
    return [whole, *(row for row in rows if row["slice"] != "all items")]


def _judged_rows(view: RunView, store: ArtifactStore) -> list[Document]:
    """What the evaluator kept of its suite's detectors; of rounds that measured anything."""
    rows = []
    for part in view.main:
        raw = store.get_doc(JUDGED, part.evaluation.evaluation_id) if part.evaluation is not None else None
        rows += [{"round": part.number, **row} for row in json.loads(raw)] if raw else []
    return rows


def _axes_read(view: RunView, store: ArtifactStore) -> list[Document]:
    """How a language model read axes of the run's items; empty where none did or no run specification was read."""
    if view.recipe is None or view.request is None or view.request.run_spec is None:
        return []
    items = RunSpec.load(store, view.request.run_spec).items
    raw = store.get_doc(AXES_READ, items.sha256)
    return list(json.loads(raw)) if raw else []


def _accuracies(part: RoundView) -> Iterator[tuple[str, Accuracy]]:
    if part.evaluation is not None:
        yield "", part.evaluation.accuracy
        for score in part.evaluation.slices:
            yield score.slice.slice_id, score.accuracy


def _estimate(accuracy: Accuracy) -> Document:
    return {"accuracy": accuracy.value or 0.0, "n": accuracy.n, "low": accuracy.low, "high": accuracy.high}


def _judged(view: RunView) -> RoundView | None:
    """The round whose checkpoint stands, else the one that was judged last."""
    judged = [part for part in view.main if part.number > 0 and part.evaluation is not None]
    promoted = [part for part in judged if part.decision is not None and part.decision.promoted]
    found = promoted or judged
    return found[-1] if found else None


def _decision(view: RunView) -> Decision | None:
    part = _judged(view)
    return part.decision if part is not None else None


def _budget(view: RunView) -> Document:
    """What candidates used, beside the limits of the recipe. The base training is no candidate.

    Tokens are of all arms; examples of the main arm, for each control has as many of its own.
    """
    used = [part for part in view.rounds if part.number > 0]
    limits = view.recipe
    return {
        "new_examples": {
            "used": sum(part.added_count for part in used if not part.arm),
            "limit": limits.new_examples if limits else None,
        },
        "train_tokens": {
            "used": sum(part.ready.cost.token_count for part in used if part.ready),
            "limit": limits.train_tokens if limits else None,
        },
        "wall_s": {"used": _seconds(view), "limit": limits.wall_s if limits else None},
    }


def _seconds(view: RunView) -> float:
    if view.started_at is None:
        return 0.0
    return round(((view.finished_at or view.last_at) - view.started_at).total_seconds(), 2)


def _spans(view: RunView) -> Iterator[Document]:
    start = view.started_at
    for time in stage_times(view):
        if start is not None and time.ended_at is not None:
            yield {
                "stage": time.stage,
                "round": time.round,
                "arm": time.arm,
                "start_s": round((time.started_at - start).total_seconds(), 2),
                "end_s": round((time.ended_at - start).total_seconds(), 2),
            }


def _reports(view: RunView) -> Iterator[tuple[str, Artifact]]:
    for part in view.rounds:
        if part.ready is not None and part.ready.training_report is not None:
            name = "base training" if part.number == 0 else f"round {part.number}"
            yield (f"{name}, {part.arm}" if part.arm else name), part.ready.training_report


def _training(store: ArtifactStore, name: str, artifact: Artifact) -> Document:
    report = TrainingReport.load(store, artifact)
    return {
        "training": name,
        "steps": report.step_count,
        "tokens": report.token_count,
        "wall_s": report.wall_s,
        "flops": report.flops,
        "stopped_early": report.stopped_early,
        "kept_step": report.kept_step,
        "loss_curve": [list(point) for point in report.loss_curve],
        "held_out_curve": [list(point) for point in report.held_out_curve],
        "tokens_per_s": report.tokens_per_s,
        "mfu": report.mfu,
        "processes": report.process_count,
        "method": report.job.settings.method,
        "objective": report.job.settings.objective,
        "health": [asdict(check) for check in report.health],
        "groups": [asdict(group) for group in report.groups],
    }


def _training_failure(failure: FailedTraining) -> Document:
    evidence = failure.evidence.sha256[:SHORT] if failure.evidence else ""
    return {"cause": failure.cause, "step": failure.step, "reason": failure.reason, "evidence": evidence}


def _lineage(view: RunView, store: ArtifactStore) -> list[Node]:
    """From the failure to the gate, oldest first, of the checkpoint that was judged last."""
    part = _judged(view)
    made = part.checkpoint if part is not None else None
    if made is None:
        return []
    gate = find(store, f"gate:{made.artifact.sha256}")
    nodes = [node for _, node in ancestry(store, f"checkpoint:{made.artifact.sha256}")]
    order = ("checkpoint", "evaluation", "failure", "diagnosis", "plan", "batch")
    first = [node for node in nodes if node.name != f"checkpoint:{made.artifact.sha256}"]
    first.sort(key=lambda node: order.index(node.kind))
    own = [node for node in nodes if node.name == f"checkpoint:{made.artifact.sha256}"]
    return [*first, *own, *([gate] if gate is not None else [])]


def _node(node: Node) -> Document:
    identity = node.name.partition(":")[2]
    facts = {key: value for key, value in node.facts.items() if isinstance(value, str | int | float)}
    return {"kind": node.kind, "id": "/".join(part[:SHORT] for part in identity.split("/")), "facts": facts}
