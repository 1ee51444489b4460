"""One event through the diagnostician: EvalFailed in, exactly one DiagnosisReady out. Protobuf stops here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import cast

from google.protobuf.message import Message

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows, record_of
from mendloop.axes.annotate import CLUSTER
from mendloop.axes.placing import Places, unplaceable
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.core.errors import Interrupted
from mendloop.core.events import stable_hash
from mendloop.core.records import Example, Item, Outcome, Preference
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import matches
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingReport
from mendloop.core.wire import artifact_of, artifact_ref, conditions_of, fix_messages, slice_name
from mendloop.diagnostician.domain.case import SAMPLE_SIZE, Case, Check, Training, draw_samples
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Attachment, Cost, Evidence
from mendloop.diagnostician.domain.failure_modes import FailureModes
from mendloop.diagnostician.domain.interventions import Intervention, propose
from mendloop.diagnostician.domain.mode_evidence import modes_of
from mendloop.diagnostician.domain.operation import failing_operation
from mendloop.diagnostician.domain.probing import Choose, Findings, IsClear, Probe, cheapest, investigate
from mendloop.diagnostician.domain.verdict import Judge, Verdict, is_clear, judge
from mendloop.diagnostician.ports import Checkpoints
from mendloop.v1 import common_pb2, diagnosis_pb2, evaluation_pb2

KeepModes = Callable[[FailureModes, str], object]
"""Keeps failure modes under a name, one for each slice."""
ATTACHMENT = "application/vnd.mendloop.attachment+json"


@dataclass(frozen=True, slots=True)
class Ports:
    """What the handler needs; judge and is_clear are where a calibrated model and a scheduler come in."""

    store: ArtifactStore
    checkpoints: Checkpoints
    probes: Sequence[Probe]
    telemetry: Telemetry
    failure_sample: int = SAMPLE_SIZE
    keep_modes: KeepModes = lambda modes, name: None
    judge: Judge = judge
    is_clear: IsClear = is_clear
    choose: Choose = cheapest
    clock: Callable[[], float] = time.monotonic
    places: Callable[[RunSpec], Places | None] = lambda spec: None
    """How prompts of the corpus are placed on the axis cluster; None where they cannot be."""


def handlers(ports: Ports) -> dict[type[Message], Handler]:
    """The handlers of the service, bound to its ports."""
    return {evaluation_pb2.EvalFailed: partial(on_eval_failed, ports=ports)}


def on_eval_failed(event: Event, *, ports: Ports) -> list[Emit]:
    """Diagnose one weak slice. Raises Interrupted between probes where the service stops."""
    failure = cast(evaluation_pb2.EvalFailed, event.message)
    case = case_of(failure, ports=ports)

    def give_back_if_stopping() -> None:
        if event.is_stopping():
            raise Interrupted(f"stopped while diagnosing {slice_name(case.conditions)}; its probes run again")

    findings = investigate(
        case,
        ports.probes,
        is_clear=ports.is_clear,
        clock=ports.clock,
        choose=ports.choose,
        before_probe=give_back_if_stopping,
    )
    verdict = ports.judge(findings.evidence)
    findings = replace(findings, evidence=(*findings.evidence, _modes(case, ports=ports)))
    interventions = propose(verdict, findings.evidence, training=case.training)
    _record(failure, verdict, ports=ports)
    ports.telemetry.add("mendloop_verdicts", cause=verdict.cause.value)
    if verdict.cause is not Cause.UNKNOWN:
        ports.telemetry.observe("mendloop_verdict_confidence", verdict.confidence, trace_id=event.trace_id)
    ports.telemetry.add("mendloop_tokens", findings.cost.token_count, use="probe")
    message = _message(failure, case, findings, verdict, interventions, ports=ports)
    return [Emit(message, key=failure.position.run_id, subject=failure.position.run_id)]


def case_of(failure: evaluation_pb2.EvalFailed, *, ports: Ports) -> Case:
    """Everything that probes may look at, from the artifacts that the event names."""
    store, ready = ports.store, failure.checkpoint_ready
    spec = RunSpec.load(store, artifact_of(ready.run_spec))
    task, conditions = spec.task(), conditions_of(failure.slice)
    outcomes = get_rows(store, artifact_of(failure.outcomes), kind=Outcome)
    items = {item.item_id: item for item in get_rows(store, spec.items, kind=Item)}
    report = _report(failure, store=store)
    corpus = get_rows(store, spec.corpus, kind=Example)
    if report is not None and report.job.batch is not None and _holds_examples(store, report.job.batch):
        corpus += get_rows(store, report.job.batch, kind=Example)
    seed = int(stable_hash("diagnosis", failure.evaluation_id, failure.slice.slice_id)[:8], 16)
    samples = draw_samples(outcomes, items, conditions, seed=seed, size=ports.failure_sample)
    annotated = [row if row.axes else replace(row, axes=task.annotate(row.prompt)) for row in corpus]
    places = ports.places(spec) if any(axis == CLUSTER for axis, _ in conditions) else None
    why = unplaceable(conditions, spec.recipe.suite, places=places)
    return Case(
        conditions=conditions,
        samples=samples,
        failed_count=_failed_count(outcomes, conditions),
        corpus=tuple(places.placed(annotated) if places else annotated),
        task=task,
        template=spec.prompt,
        suite=spec.recipe.suite,
        model=ports.checkpoints.open(artifact_of(ready.checkpoint)),
        training=_training(report, example_count=len(corpus)) if report else None,
        seed=seed,
        earlier=ports.checkpoints.open(report.job.start) if report else None,
        weights=partial(ports.checkpoints.directory, artifact_of(ready.checkpoint)),
        not_placed=why,
        wants_operation=spec.recipe.step_data,
    )


def _holds_examples(store: ArtifactStore, batch: Artifact) -> bool:
    """Whether a batch is a corpus that probes can read; pairs of preferences are none."""
    return record_of(store, batch) != Preference.__name__


def _modes(case: Case, *, ports: Ports) -> Evidence:
    """The failure modes, kept as the slice's current version; what to look at, not what the verdict rests on."""
    modes, row = modes_of(case)
    if modes is not None:
        ports.keep_modes(modes, stable_hash("slice", *(f"{axis}={value}" for axis, value in case.conditions)))
    return row


def _failed_count(outcomes: Sequence[Outcome], conditions: Sequence[tuple[str, str]]) -> int:
    return len({row.item_id for row in outcomes if not row.is_correct and matches(row.axes, conditions)})


def _report(failure: evaluation_pb2.EvalFailed, *, store: ArtifactStore) -> TrainingReport | None:
    reference = failure.checkpoint_ready.training_report
    return TrainingReport.load(store, artifact_of(reference)) if reference.sha256 else None


def _training(report: TrainingReport, *, example_count: int) -> Training:
    checks = tuple(Check(check.name, check.passed, check.value) for check in report.health)
    return Training(
        report.job.settings,
        checks,
        report.loss_curve,
        example_count,
        template=lambda prompt: report.job.template.format(prompt=prompt),
    )


def _record(failure: evaluation_pb2.EvalFailed, verdict: Verdict, *, ports: Ports) -> None:
    place = f"{failure.evaluation_id}/{failure.slice.slice_id}"
    facts = {"cause": verdict.cause.value, "confidence": verdict.confidence}
    record(ports.store, Node(f"diagnosis:{place}", failure.position.run_id, (f"failure:{place}",), facts))


def _message(
    failure: evaluation_pb2.EvalFailed,
    case: Case,
    findings: Findings,
    verdict: Verdict,
    interventions: Sequence[Intervention],
    *,
    ports: Ports,
) -> diagnosis_pb2.DiagnosisReady:
    uses_gpu = ports.checkpoints.uses_gpu()
    scores = [diagnosis_pb2.CauseScore(cause=_cause(cause), score=score) for cause, score in verdict.scores.items()]
    return diagnosis_pb2.DiagnosisReady(
        position=failure.position,
        evaluation_id=failure.evaluation_id,
        slice=failure.slice,
        cause=_cause(verdict.cause),
        family=diagnosis_pb2.CauseFamily.Value(f"CAUSE_FAMILY_{verdict.family}"),
        confidence=verdict.confidence,
        evidence=[_evidence(row, uses_gpu=uses_gpu, store=ports.store) for row in findings.evidence],
        scores=scores,
        interventions=[_intervention(one) for one in interventions],
        failed_count=case.failed_count,
        weak_slice_count=failure.weak_slice_count,
        metering=_metering(findings.cost, uses_gpu=uses_gpu),
        summary=summary(case, findings, verdict),
        also=[_cause(cause) for cause in verdict.also],
        operation=failing_operation(case) if case.wants_operation else "",
    )


def summary(case: Case, findings: Findings, verdict: Verdict) -> str:
    """One sentence for a person: the verdict, what it rests on, and which probes were not needed."""
    skipped = f" Not needed: {', '.join(findings.skipped)}." if findings.skipped else ""
    confidence = f" (explains at least {verdict.confidence:.0%} of the failures)" if verdict.confidence else ""
    return f"{slice_name(case.conditions)}: {verdict.cause}{confidence}: {verdict.because}{skipped}"


def _cause(cause: Cause) -> diagnosis_pb2.Cause.ValueType:
    return diagnosis_pb2.Cause.Value(f"CAUSE_{cause}")


def _evidence(row: Evidence, *, uses_gpu: bool, store: ArtifactStore) -> diagnosis_pb2.Evidence:
    attached = _stored(row.attachment, store=store) if row.attachment else None
    return diagnosis_pb2.Evidence(
        attachment=attached,
        probe=row.probe,
        measurement=f"{row.measurement}[{row.sample}]" if row.sample else row.measurement,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.n,
        reading=row.reading,
        metering=_metering(row.cost, uses_gpu=uses_gpu),
    )


def _stored(attachment: Attachment, *, store: ArtifactStore) -> common_pb2.ArtifactRef:
    document = json.dumps(asdict(attachment), sort_keys=True, ensure_ascii=False)
    return artifact_ref(store.put(document.encode(), media_type=ATTACHMENT))


def _metering(cost: Cost, *, uses_gpu: bool) -> common_pb2.Metering:
    gpu_s = cost.wall_s if uses_gpu and cost.token_count else 0.0
    return common_pb2.Metering(wall_s=cost.wall_s, gpu_s=gpu_s, token_count=cost.token_count)


def _intervention(one: Intervention) -> diagnosis_pb2.ProposedIntervention:
    kind = diagnosis_pb2.InterventionKind.Value(f"INTERVENTION_KIND_{one.kind}")
    return diagnosis_pb2.ProposedIntervention(kind=kind, fixes=fix_messages(one.fixes), rationale=one.rationale)
