"""What the evaluator does about each event: cut into shards, score a shard, fan in, measure again.

Knows events and ports; knows neither how a slice is found weak nor how a model is run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.axes.annotate import CLUSTER
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.core.errors import InvalidEvent, Permanent
from mendloop.core.fixes import repaired_recipe
from mendloop.core.records import Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref, fixes_of, slice_message, slice_name
from mendloop.evaluator.clusters import Clusters, open_clusters, sealed_clusters
from mendloop.evaluator.domain.draws import first_draws, pass_at_one
from mendloop.evaluator.domain.health import check_scorer, refuse_unsound
from mendloop.evaluator.domain.scoring import Cost, total_cost
from mendloop.evaluator.domain.sharding import evaluation_id
from mendloop.evaluator.domain.slices import SliceSearch, find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules
from mendloop.evaluator.history import SliceHistory
from mendloop.evaluator.measurement import WHOLE, Measurement, shard_name
from mendloop.evaluator.messages import completed, failed, metering, sealed_comparisons
from mendloop.evaluator.ports import Embedder, ModelLoader, OutcomeStore, Scored
from mendloop.evaluator.twins import TwinRound, measure_twins, twin_comparisons, twin_round
from mendloop.judging.belief import Detector, detectors_of, judged
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)
REPEATS = "repeats"
"""The part under which every draw of every item is kept, where there is more than one."""
SCORER_HEALTH = "scorer-health"
"""Namespace of the documents that say what the check of the scorer found, by evaluation id."""

DETECTORS, JUDGED = "detectors", "judged"
"""Namespaces, by evaluation id: how far the suite's detectors can be believed, and what their verdicts are worth."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the handlers work with. Nothing of a sealed item goes anywhere but sealed_store and sealed_outcomes."""

    store: ArtifactStore
    sealed_store: ArtifactStore
    outcomes: OutcomeStore
    sealed_outcomes: OutcomeStore
    models: ModelLoader
    telemetry: Telemetry
    servers: ModelLoader | None = None
    """Loads checkpoints into vLLM, for suites with that backend."""
    embedder: Embedder | None = None
    """Places items in a hierarchy, for suites with the axis `cluster`."""


def handlers(ports: Ports) -> dict[type[Message], Handler]:
    """The handlers, bound to their ports."""
    return {
        checkpoint_pb2.CheckpointReady: partial(on_checkpoint_ready, ports=ports),
        evaluation_pb2.EvaluationShard: partial(on_evaluation_shard, ports=ports),
        evaluation_pb2.ShardScored: partial(on_shard_scored, ports=ports),
        intervention_pb2.InterventionPlanned: partial(on_intervention_planned, ports=ports),
    }


def on_checkpoint_ready(event: Event, *, ports: Ports) -> list[Emit]:
    """A checkpoint can be measured: cut the suite into shards."""
    ready = _expect(event, checkpoint_pb2.CheckpointReady)
    spec = RunSpec.load(ports.store, artifact_of(ready.run_spec))
    _check_scorer(ready, spec, ports=ports)
    return _shards(ready, spec)


def on_intervention_planned(event: Event, *, ports: Ports) -> list[Emit]:
    """The evaluation is at fault: measure the same checkpoint again with the repaired suite."""
    plan = _expect(event, intervention_pb2.InterventionPlanned)
    if plan.kind != diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX:
        return []
    spec = RunSpec.load(ports.store, artifact_of(plan.run_spec))
    repaired = replace(spec, recipe=repaired_recipe(spec.recipe, fixes_of(plan.fixes)))
    ready = checkpoint_pb2.CheckpointReady(
        position=plan.position,
        checkpoint=plan.checkpoint,
        kind=checkpoint_pb2.CHECKPOINT_KIND_REMEASURED,
        baseline=plan.checkpoint,
        plan_id=plan.plan_id,
        run_spec=artifact_ref(repaired.store(ports.store)),
        training_report=plan.training_report,
        diagnosis_wanted=plan.diagnosis_wanted,
    )
    _check_scorer(ready, repaired, ports=ports)
    return _shards(ready, repaired)


def on_evaluation_shard(event: Event, *, ports: Ports) -> list[Emit]:
    """Score one shard of the items and of the sealed items; finished parts are not scored again."""
    shard = _expect(event, evaluation_pb2.EvaluationShard)
    spec = RunSpec.load(ports.store, artifact_of(shard.run_spec))
    if shard.evaluation_id != _id_of(spec, shard.checkpoint):
        raise InvalidEvent(
            f"shard {shard.shard_index} belongs to evaluation {shard.evaluation_id}, but its checkpoint and suite are"
            f" {_id_of(spec, shard.checkpoint)}: the suite was changed after the evaluation began; start it again"
        )
    measurement = Measurement(
        evaluation_id=shard.evaluation_id,
        index=shard.shard_index,
        count=shard.shard_count,
        spec=spec,
        task=spec.task(),
        load=lambda: _loader(spec, ports=ports).load(artifact_of(shard.checkpoint)),
        telemetry=ports.telemetry,
        is_stopping=event.is_stopping,
    )
    sealed_cost = Cost()
    if spec.sealed_items is not None and not shard.position.arm:
        sealed_items = get_rows(ports.sealed_store, spec.sealed_items, kind=Item)
        sealed_cost = measurement.scored(sealed_items, kept_in=ports.sealed_outcomes).cost
    scored = measurement.scored(get_rows(ports.store, spec.items, kind=Item), kept_in=ports.outcomes)
    twin_cost = measure_twins(
        _twin_round(shard.checkpoint_ready, spec, ports=ports),
        measurement,
        load_baseline=lambda: _loader(spec, ports=ports).load(artifact_of(shard.checkpoint_ready.baseline)),
        kept_in=ports.sealed_outcomes,
    )
    message = evaluation_pb2.ShardScored(
        position=shard.position,
        evaluation_id=shard.evaluation_id,
        shard_index=shard.shard_index,
        shard_count=shard.shard_count,
        outcomes=artifact_ref(scored.outcomes),
        metering=metering(total_cost([scored.cost, sealed_cost, twin_cost])),
        checkpoint_ready=shard.checkpoint_ready,
    )
    run_id = shard.position.run_id
    return [Emit(message, key=run_id, subject=run_id)]


def on_shard_scored(event: Event, *, ports: Ports) -> list[Emit]:
    """Fan-in: the shard that completes the evaluation answers with its result and its weak slices."""
    shard = _expect(event, evaluation_pb2.ShardScored)
    if not _is_last(shard, store=ports.store):
        return []
    ready = shard.checkpoint_ready
    spec = RunSpec.load(ports.store, artifact_of(ready.run_spec))
    rules = SliceRules.of(spec.recipe.suite)
    whole, cost = _whole(shard, spec, ports=ports)
    outcomes = ports.outcomes.rows(whole)
    search = find_weak_slices(outcomes, rules=rules)
    _record(shard, search, outcomes, store=ports.store)
    _judge(shard, outcomes, store=ports.store)
    history = SliceHistory(ports.store)
    history.note(shard, whole.outcomes)
    weak = search.weak if ready.diagnosis_wanted else ()
    stored = [history.keep(found.conditions, outcomes) for found in weak]
    found, kept_in = _twin_round(ready, spec, ports=ports), ports.sealed_outcomes
    twins, twin_cost = twin_comparisons(
        found, outcomes, candidate_id=shard.evaluation_id, shard_count=shard.shard_count, kept_in=kept_in
    )
    cost = total_cost([cost, twin_cost])
    result = completed(shard, whole.outcomes, outcomes, search, axes=rules.axes, weak_count=len(weak), cost=cost)
    result.twins.extend(twins)
    result.sealed.extend(_sealed(shard, spec, rules, ports=ports))
    failures = [
        failed(shard, whole.outcomes, outcomes, found, threshold=rules.weak_below, weak_count=len(weak))
        for found in weak
    ]
    for failure, kept, trend in zip(failures, stored, history.trends(shard, stored), strict=True):
        failure.slice_version = kept.version
        failure.trend.extend(trend)
    run_id, identity = shard.position.run_id, _identity(shard)
    return [
        Emit(result, key=run_id, identity=identity, subject=run_id),
        *(
            Emit(
                failure,
                key=f"{run_id}/{failure.slice.slice_id}",
                identity=f"{identity}/{failure.slice.slice_id}",
                subject=run_id,
            )
            for failure in failures
        ),
    ]


def _shards(ready: checkpoint_pb2.CheckpointReady, spec: RunSpec) -> list[Emit]:
    run_id, name, count = ready.position.run_id, _id_of(spec, ready.checkpoint), spec.recipe.suite.shards
    log.info("evaluation starts", extra={"run_id": run_id, "evaluation_id": name, "shard_count": count})
    return [
        Emit(
            evaluation_pb2.EvaluationShard(
                position=ready.position,
                evaluation_id=name,
                checkpoint=ready.checkpoint,
                run_spec=ready.run_spec,
                shard_index=index,
                shard_count=count,
                checkpoint_ready=ready,
            ),
            key=f"{run_id}/{name}/{index}",
            subject=run_id,
        )
        for index in range(count)
    ]


def _check_scorer(ready: checkpoint_pb2.CheckpointReady, spec: RunSpec, *, ports: Ports) -> None:
    """Known answers are scored first. Raises Permanent, which ends the run with the evidence, where that fails."""
    name = _id_of(spec, ready.checkpoint)
    if ports.store.get_doc(SCORER_HEALTH, name) is not None:
        return
    task = spec.task()
    detectors = [detector.document() for detector in detectors_of(task)]
    ports.store.put_doc(DETECTORS, name, json.dumps(detectors).encode())
    health = check_scorer(task, get_rows(ports.store, spec.items, kind=Item))
    log.info("scorer checked", extra={"run_id": ready.position.run_id, "evaluation_id": name, **health.facts()})
    refuse_unsound(health, task_name=spec.recipe.task)
    ports.store.put_doc(SCORER_HEALTH, name, json.dumps(health.facts(), sort_keys=True).encode())


def _judge(shard: evaluation_pb2.ShardScored, outcomes: Sequence[Outcome], *, store: ArtifactStore) -> None:
    """What the verdicts of the suite's detectors are worth, where it has any: for the report."""
    raw = store.get_doc(DETECTORS, shard.evaluation_id)
    detectors = [Detector.read(document) for document in json.loads(raw)] if raw else []
    if not detectors:
        return
    found = judged(detectors, outcomes)
    store.put_doc(JUDGED, shard.evaluation_id, json.dumps(found).encode())
    for row in found:
        kept = {name: row[name] for name in ("axis", "value", "kind", "n", "observed", "corrected", "flags")}
        log.info("detector applied", extra={"evaluation_id": shard.evaluation_id, **kept})


def _loader(spec: RunSpec, *, ports: Ports) -> ModelLoader:
    if spec.recipe.suite.backend == "transformers":
        return ports.models
    if ports.servers is None:
        raise Permanent("suite.backend is vllm, but this evaluator has no vLLM; set suite.backend to transformers")
    return ports.servers


def _id_of(spec: RunSpec, checkpoint: common_pb2.ArtifactRef) -> str:
    return evaluation_id(
        spec.recipe,
        checkpoint_sha=checkpoint.sha256,
        items_sha=spec.items.sha256,
        sealed_sha=spec.sealed_items.sha256 if spec.sealed_items else "",
    )


def _identity(shard: evaluation_pb2.ShardScored) -> str:
    """A control that became the same checkpoint as the main arm shares its outcomes, and needs an answer of its own."""
    position = shard.position
    return "/".join([position.run_id, str(position.round), shard.evaluation_id, *filter(None, [position.arm])])


def _is_last(shard: evaluation_pb2.ShardScored, *, store: ArtifactStore) -> bool:
    """Notes that the shard arrived, then looks whether all did.

    A run notes for itself: two runs that measure the same checkpoint share outcomes, and each needs an answer.
    """
    namespace = f"arrived/{shard.evaluation_id}"
    names = [f"{_identity(shard)}/{shard_name(i, shard.shard_count)}" for i in range(shard.shard_count)]
    store.put_doc(namespace, names[shard.shard_index], b"{}")
    return all(store.get_doc(namespace, name) is not None for name in names)


def _whole(shard: evaluation_pb2.ShardScored, spec: RunSpec, *, ports: Ports) -> tuple[Scored, Cost]:
    """All outcomes of the evaluation, merged and kept, and what they and the sealed ones cost."""
    items = get_rows(ports.store, spec.items, kind=Item)
    repeats = spec.recipe.suite.repeats
    rules = SliceRules.of(spec.recipe.suite)
    nodes = open_clusters(spec, rules=rules, store=ports.store, embedder=ports.embedder)
    item_ids = {item.item_id for item in items}
    whole = _merged(shard, kept_in=ports.outcomes, item_ids=item_ids, repeats=repeats, nodes=nodes)
    if spec.sealed_items is None or shard.position.arm:
        return whole, whole.cost
    sealed_items = get_rows(ports.sealed_store, spec.sealed_items, kind=Item)
    sealed_ids = {item.item_id for item in sealed_items}
    stores = {"store": ports.store, "sealed_store": ports.sealed_store}
    nodes = sealed_clusters(spec, nodes, **stores, embedder=ports.embedder)
    sealed = _merged(shard, kept_in=ports.sealed_outcomes, item_ids=sealed_ids, repeats=repeats, nodes=nodes)
    return whole, total_cost([whole.cost, sealed.cost])


def _merged(
    shard: evaluation_pb2.ShardScored, *, kept_in: OutcomeStore, item_ids: set[str], repeats: int, nodes: Clusters
) -> Scored:
    names = [shard_name(i, shard.shard_count) for i in range(shard.shard_count)]
    found = [scored for name in names if (scored := kept_in.find(shard.evaluation_id, name)) is not None]
    rows = [row for scored in found for row in kept_in.rows(scored)]
    wanted = {(item_id, repeat) for item_id in item_ids for repeat in range(repeats)}
    if {(row.item_id, row.repeat_index) for row in rows} != wanted or len(rows) != len(wanted):
        raise Permanent(
            f"evaluation {shard.evaluation_id} has {len(rows)} outcomes in {len(found)} of {len(names)} shards for"
            f" {len(wanted)} items: outcomes were lost or belong to other items; start the evaluation again"
        )
    if nodes:
        rows = [replace(row, axes={**row.axes, CLUSTER: nodes[row.item_id]}) for row in rows]
    ordered = sorted(rows, key=lambda row: (row.item_id, row.repeat_index))
    cost = total_cost(scored.cost for scored in found)
    if repeats > 1:
        kept_in.keep(shard.evaluation_id, REPEATS, outcomes=ordered, cost=cost)
        if rows[0].split != "sealed":
            over = asdict(pass_at_one(ordered))
            log.info("pass@1 over all repeats", extra={"evaluation_id": shard.evaluation_id, **over})
    return kept_in.keep(shard.evaluation_id, WHOLE, outcomes=first_draws(ordered), cost=cost)


def _sealed(
    shard: evaluation_pb2.ShardScored, spec: RunSpec, rules: SliceRules, *, ports: Ports
) -> list[evaluation_pb2.SealedComparison]:
    """Paired counts of a candidate against its baseline; empty, with the reason logged, where there are none."""
    ready = shard.checkpoint_ready
    if ready.kind != checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE or not ready.baseline.sha256 or ready.position.arm:
        return []
    before = _id_of(spec, ready.baseline)
    facts = {"run_id": shard.position.run_id, "evaluation_id": shard.evaluation_id, "baseline_evaluation_id": before}
    if spec.sealed_items is None:
        log.warning("no sealed comparison", extra={**facts, "reason": "the suite has no sealed items"})
        return []
    baseline, candidate = (ports.sealed_outcomes.find(name, WHOLE) for name in (before, shard.evaluation_id))
    open_baseline = ports.outcomes.find(before, WHOLE)
    if baseline is None or candidate is None or open_baseline is None:
        log.warning("no sealed comparison", extra={**facts, "reason": "the baseline was not measured on this suite"})
        return []
    targets = find_weak_slices(ports.outcomes.rows(open_baseline), rules=rules).weak
    return sealed_comparisons(
        ports.sealed_outcomes.rows(baseline),
        ports.sealed_outcomes.rows(candidate),
        axes=rules.axes,
        targets=[found.conditions for found in targets],
    )


def _twin_round(ready: checkpoint_pb2.CheckpointReady, spec: RunSpec, *, ports: Ports) -> TwinRound | None:
    return twin_round(
        ready,
        spec,
        baseline_id=_id_of(spec, ready.baseline),
        outcomes=ports.outcomes,
        sealed_store=ports.sealed_store,
    )


def _record(
    shard: evaluation_pb2.ShardScored, search: SliceSearch, outcomes: Sequence[Outcome], *, store: ArtifactStore
) -> None:
    """Lineage and one log line for the search and each weak slice."""
    run_id, checkpoint = shard.position.run_id, shard.checkpoint_ready.checkpoint.sha256
    name = f"evaluation:{shard.evaluation_id}"
    accuracy = sum(outcome.is_correct for outcome in outcomes) / len(outcomes) if outcomes else 0.0
    facts: dict[str, object] = {"accuracy": accuracy, "n": len(outcomes)}
    record(store, Node(name, run_id, inputs=(f"checkpoint:{checkpoint}",), facts=facts))
    counts = {field: getattr(search, field) for field in search.__slots__ if field != "weak"}
    log.info("slices searched", extra={"run_id": run_id, "evaluation_id": shard.evaluation_id, **facts, **counts})
    for found in search.weak:
        n, correct = found.search.n + found.confirm.n, found.search.correct + found.confirm.correct
        message = slice_message(found.conditions)
        facts = {"slice": slice_name(found.conditions), "n": n, "correct": correct}
        node = f"failure:{shard.evaluation_id}/{message.slice_id}"
        record(store, Node(node, run_id, inputs=(name,), facts=facts))
        evidence = {"p_value": found.p_value, "q_value": found.q_value, "unexplained_count": found.unexplained_count}
        log.info("weak slice", extra={"run_id": run_id, "slice_id": message.slice_id, **facts, **evidence})


def _expect(event: Event, kind: type[M]) -> M:
    if not isinstance(event.message, kind):
        raise InvalidEvent(f"the handler of {kind.DESCRIPTOR.name} got {event.message.DESCRIPTOR.name}")
    return event.message
