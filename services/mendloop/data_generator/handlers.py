"""InterventionPlanned (kind DATA) becomes DataBatchReady. A reader follows one plan from top to bottom.

Nothing is saved on the way: the same plan gives the same batch, so an interrupted one starts again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial

from google.protobuf.message import Message

from mendloop.artifacts import lineage
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows, put_rows
from mendloop.axes.annotate import CLUSTER
from mendloop.axes.placing import Places, unplaceable, with_places
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.core.arms import RANDOM
from mendloop.core.errors import Interrupted
from mendloop.core.events import stable_hash
from mendloop.core.recipe import SuiteSettings
from mendloop.core.records import Example, Preference, fingerprint
from mendloop.core.run_spec import RunSpec
from mendloop.core.task_hooks import Operational, Principled
from mendloop.core.tasks import Task
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref, conditions_of, slice_name
from mendloop.data_generator.batch_lineage import batch_node, control_of
from mendloop.data_generator.domain.audit import audit
from mendloop.data_generator.domain.batch import Bench, Filled, Order, PairBench, fill, fill_pairs
from mendloop.data_generator.domain.collection import Limits
from mendloop.data_generator.domain.controls import POOL, control_sources, looks_into_corpus
from mendloop.data_generator.domain.curation import Curated
from mendloop.data_generator.domain.funnel import GARBAGE_ERRORS, Funnel, Rules
from mendloop.data_generator.domain.ledger import SLICE, SOURCE, STUDENT, TEACHER, VERIFICATION, Ledger
from mendloop.data_generator.domain.preferences import PairFunnel, PairRules
from mendloop.data_generator.domain.selection import Selection
from mendloop.data_generator.ports import (
    Assignment,
    Check,
    OpenIndex,
    OpenRetrieval,
    OpenSources,
    OpenStudent,
    OpenTeaching,
    PairSource,
    Source,
    Teaching,
)
from mendloop.data_generator.round_corpus import curated_corpus, shelf_of
from mendloop.passes.marks import EvaluationMarks
from mendloop.v1 import common_pb2, diagnosis_pb2, intervention_pb2

log = logging.getLogger(__name__)
VERIFIER_PROBES = 20
"""Corpus examples that tell whether the task has a verifier at all."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the handler works with."""

    store: ArtifactStore
    telemetry: Telemetry
    open_sources: OpenSources
    open_index: OpenIndex
    limits: Limits
    task_of: Callable[[RunSpec], Task] = RunSpec.task
    places: Callable[[RunSpec], Places | None] = lambda spec: None
    """How prompts are placed on the axis cluster; None where they cannot be."""
    open_student: OpenStudent | None = None
    """How the checkpoint that failed is loaded; None where this service loads none."""
    open_teaching: OpenTeaching = lambda assignment: Teaching()
    """Who else teaches: by default nobody."""
    open_retrieval: OpenRetrieval = lambda shelf: ()
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _Material:
    task: Task
    suite: SuiteSettings
    window_causes: Sequence[str]
    places: Places | None
    corpus: list[Example]
    marks: EvaluationMarks
    sources: Sequence[Source]
    teaching: Teaching
    control: str
    """Name of the control arm; empty for the loop's own batch."""
    can_verify: Callable[[], bool]
    """Whether the task's program confirms anything of the corpus as it came; found out once, when it is asked."""


def handlers(ports: Ports) -> dict[type[Message], Handler]:
    """The handler of each message that the service reads."""
    return {intervention_pb2.InterventionPlanned: lambda event: on_intervention_planned(event, ports=ports)}


def on_intervention_planned(event: Event, *, ports: Ports) -> list[Emit]:
    """Answer a data plan with a batch; other kinds are not ours. Raises Interrupted where the service stops."""
    plan = event.message
    assert isinstance(plan, intervention_pb2.InterventionPlanned)
    if plan.kind != diagnosis_pb2.INTERVENTION_KIND_DATA:
        return []
    started = ports.clock()
    ledger = Ledger()
    spec = RunSpec.load(ports.store, artifact_of(plan.run_spec))
    orders = _orders(plan, spec=spec)
    material = _gather(spec, orders, plan=plan, is_stopping=event.is_stopping, ports=ports)
    curation = _curated(plan, orders, spec=spec, material=material, ledger=ledger, ports=ports)
    before, material = material.corpus, replace(material, corpus=list(curation.known))
    filled = _fill(orders, event=event, material=material, ledger=ledger, ports=ports)
    examples = [example for part in filled for example in part.examples]
    for line in material.teaching.notes():
        ledger.note(VERIFICATION, line)
    tokens, unmetered = material.teaching.cost()
    if unmetered:
        ledger.note(TEACHER, f"{unmetered} replies of the teacher came without a token count: they are not metered")
    record, batch = _stored(filled, asked_for_pairs=_pairs_of(material) is not None, store=ports.store)
    corpus = put_rows(ports.store, curation.corpus, kind=Example) if curation.facts else None
    node = batch_node(
        plan,
        batch=batch,
        filled=filled,
        ledger=ledger,
        facts={
            "audit": audit(before, examples, kept=curation.corpus),
            **({"corpus": {"sha256": corpus.sha256, **curation.facts}} if corpus else {}),
            **({"control": material.control} if material.control else {}),
        },
    )
    manifest = lineage.record(ports.store, node)
    _count(examples, ledger=ledger, ports=ports)
    ready = intervention_pb2.DataBatchReady(
        position=plan.position,
        batch=artifact_ref(batch),
        example_count=len(examples),
        drops=[intervention_pb2.DropCount(**asdict(row)) for row in ledger.rows()],
        manifest=artifact_ref(manifest),
        metering=common_pb2.Metering(wall_s=ports.clock() - started, token_count=tokens),
        plan=plan,
        record=record,
        awaits_review=spec.recipe.review and bool(examples) and not material.control,
        corpus=artifact_ref(corpus) if corpus else None,
    )
    log.info("batch ready", extra={**_place(plan), "examples": len(examples), "drops": ledger.count_by_stage()})
    return [Emit(ready, key=plan.position.run_id, subject=plan.position.run_id)]


def _gather(
    spec: RunSpec,
    orders: Sequence[Order],
    *,
    plan: intervention_pb2.InterventionPlanned,
    is_stopping: Callable[[], bool],
    ports: Ports,
) -> _Material:
    places = ports.places(spec) if any(axis == CLUSTER for order in orders for axis, _ in order.conditions) else None
    task = with_places(ports.task_of(spec), places)
    pool = get_rows(ports.store, spec.pool, kind=Example) if spec.pool else []
    if places is not None:
        pool = places.placed([_with_axes(row, task=ports.task_of(spec)) for row in pool])
    corpus = [_with_axes(row, task=task) for row in get_rows(ports.store, spec.corpus, kind=Example)]
    marks = _marks(ports.store, spec.fingerprints)
    control = control_of(plan)
    student = None
    if ports.open_student is not None and spec.recipe.asks_student:
        student = ports.open_student(spec, artifact_of(plan.checkpoint))
    assignment = Assignment(
        spec,
        plan.plan_id,
        task,
        corpus,
        marks.fingerprints,
        places=places,
        student=student,
        token_limit=plan.teacher_token_limit,
    )
    teaching = ports.open_teaching(assignment)
    told = [_with_axes(row, task=task) for row in pool] if spec.recipe.retrieval or control else ()
    if control:
        others = [s for s in ports.open_sources(task, spec.recipe.task, ()) if s.name != POOL]
        sources = control_sources(
            control, pool=told, teachers=teaching.beside(others), asks_pool=teaching.place != "alone"
        )
    else:
        shelf = shelf_of(spec, told, places=places, is_stopping=is_stopping, store=ports.store)
        beside = teaching.beside(ports.open_sources(task, spec.recipe.task, pool))
        sources = [*(ports.open_retrieval(shelf) if shelf else ()), *beside]
    return _Material(
        task=task,
        suite=spec.recipe.suite,
        window_causes=spec.recipe.student_window.causes if spec.recipe.student_window else [],
        places=places,
        corpus=corpus,
        marks=marks,
        sources=sources,
        teaching=teaching,
        control=control,
        can_verify=cache(partial(_can_verify, task, corpus)),
    )


def _curated(
    plan: intervention_pb2.InterventionPlanned,
    orders: Sequence[Order],
    *,
    spec: RunSpec,
    material: _Material,
    ledger: Ledger,
    ports: Ports,
) -> Curated:
    """The corpus that the round replays. A control replays the run's own: it stands against curation too."""
    if material.control:
        return Curated(material.corpus, material.corpus)
    return curated_corpus(
        plan,
        orders,
        spec=spec,
        task=material.task,
        corpus=material.corpus,
        can_verify=material.can_verify,
        places=material.places,
        store=ports.store,
        ledger=ledger,
    )


def _with_axes(example: Example, *, task: Task) -> Example:
    if example.axes:
        return example
    try:
        return replace(example, axes=task.annotate(example.prompt))
    except GARBAGE_ERRORS:
        return example  # the audit lists it under no value


def _marks(store: ArtifactStore, artifact: Artifact) -> EvaluationMarks:
    return EvaluationMarks.of_bytes(store.get(artifact), name=f"artifact {artifact.sha256[:12]}")


def _orders(plan: intervention_pb2.InterventionPlanned, *, spec: RunSpec) -> list[Order]:
    """The plan's items. Seeds come from recipe and round, so that a run repeated elsewhere gets the same data."""
    place = (str(spec.recipe.seed), str(plan.position.round), plan.position.arm)
    return [
        Order(
            name=slice_name(conditions_of(item.slice)),
            conditions=conditions_of(item.slice),
            count=item.example_count,
            seed=int(stable_hash("batch", *place, item.slice.slice_id, str(index))[:12], 16),
            operation=item.operation,
            cause=diagnosis_pb2.Cause.Name(item.cause).removeprefix("CAUSE_").lower() if item.cause else "",
        )
        for index, item in enumerate(plan.items)
    ]


def _fill(orders: list[Order], *, event: Event, material: _Material, ledger: Ledger, ports: Ports) -> list[Filled]:
    plan = event.message
    assert isinstance(plan, intervention_pb2.InterventionPlanned)

    def on_progress(source: str, looked_at: int) -> None:
        if event.is_stopping():
            raise Interrupted(f"the service stops after {looked_at} candidates of {source}; the plan starts again")
        if looked_at % 5_000 == 0:
            log.info("collecting", extra={**_place(plan), "source": source, "candidates": looked_at})

    on_progress("start", 0)
    filling = _filling(material, ledger=ledger, ports=ports, on_progress=on_progress)
    filled = []
    for order in orders:
        why = unplaceable(order.conditions, material.suite, places=material.places)
        if why:
            ledger.note(SLICE, f"{order.name}: no example can be placed in this slice: {why}")
        elif material.control == RANDOM and _pairs_of(material) is not None:
            why = "a pool holds no preference pairs"
            ledger.note(SOURCE, f"{order.name}: {why}")
        filled.append(Filled(order, ()) if why else filling(order))
        found = len(filled[-1].examples)
        log.info("slice filled", extra={**_place(plan), "slice": order.name, "found": found, "ordered": order.count})
    return filled


def _filling(
    material: _Material, *, ledger: Ledger, ports: Ports, on_progress: Callable[[str, int], None]
) -> Callable[[Order], Filled]:
    """How an order is filled: with examples, or with preference pairs where the family is one of principles."""
    source = _pairs_of(material)
    if source is None:
        return partial(fill, bench=_bench(material, ledger=ledger, ports=ports, on_progress=on_progress))
    task = material.task
    assert isinstance(task, Principled)
    rules = PairRules(
        lambda name, prompt, output: task.is_kept(name, prompt=prompt, output=output), material.marks.fingerprints
    )
    funnel = PairFunnel(rules, known=ports.open_index(), ledger=ledger)
    return partial(
        fill_pairs, bench=PairBench(source, funnel, task.precepts, ports.limits, ledger=ledger, on_progress=on_progress)
    )


def _pairs_of(material: _Material) -> PairSource | None:
    return material.teaching.pairs if isinstance(material.task, Principled) else None


def _stored(filled: Sequence[Filled], *, asked_for_pairs: bool, store: ArtifactStore) -> tuple[str, Artifact]:
    """The batch, and the record of its rows where that is not Example."""
    if asked_for_pairs:
        pairs = [pair for part in filled for pair in part.pairs]
        return Preference.__name__, put_rows(store, pairs, kind=Preference)
    return "", put_rows(store, [example for part in filled for example in part.examples], kind=Example)


def _bench(material: _Material, *, ledger: Ledger, ports: Ports, on_progress: Callable[[str, int], None]) -> Bench:
    known = ports.open_index()
    shunned = material.corpus if looks_into_corpus(material.control) else []
    known.add(shunned)
    can_verify, confirms = material.can_verify(), material.teaching.confirms
    rules = Rules(
        verify=material.task.verify,
        annotate=material.task.annotate,
        held_out=material.marks.fingerprints,
        holds_item=material.marks.holds_item,
        in_corpus=frozenset(fingerprint(example.prompt) for example in shunned),
        can_verify=can_verify,
        operations=material.task.operations if isinstance(material.task, Operational) else None,
        checks=(confirms,) if confirms is not None and not can_verify else (),
    )
    return Bench(
        sources=material.sources,
        funnel=Funnel(rules, known=known, ledger=ledger),
        selection=Selection(material.corpus),
        limits=ports.limits,
        ledger=ledger,
        open_index=ports.open_index,
        on_progress=on_progress,
        checks=partial(_window, material, ledger=ledger),
    )


def _window(material: _Material, order: Order, *, ledger: Ledger) -> Sequence[Check]:
    """The window of pass rates, where the recipe asks for one and it applies to the slice."""
    if material.teaching.window is None or material.control:
        return ()
    if order.cause not in material.window_causes:
        reason = f"{order.name}: pass rates are not asked for: its cause is {order.cause or 'not named'}"
        ledger.note(STUDENT, reason)
        return ()
    return (material.teaching.window,)


def _can_verify(task: Task, corpus: Sequence[Example]) -> bool:
    def confirms(example: Example) -> bool:
        try:
            return task.verify(example.prompt, example.completion)
        except GARBAGE_ERRORS:
            return False

    return any(confirms(example) for example in corpus[:VERIFIER_PROBES])


def _count(examples: Sequence[Example], *, ledger: Ledger, ports: Ports) -> None:
    ports.telemetry.add("mendloop_examples_kept", len(examples))
    for stage, count in ledger.count_by_stage().items():
        ports.telemetry.add("mendloop_examples_dropped", count, stage=stage)


def _place(plan: intervention_pb2.InterventionPlanned) -> dict[str, object]:
    return {"run_id": plan.position.run_id, "plan_id": plan.plan_id, "round": plan.position.round}
