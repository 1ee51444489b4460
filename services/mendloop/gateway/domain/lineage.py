"""The lineage of a run as a graph: what came of what, from the base checkpoint to the gate. Pure.

Node ids are the names that `mend lineage` knows (KIND:ID), made of the run's events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import Checkpoint, Evaluation, Plan

SHORT = 12


@dataclass(frozen=True, slots=True)
class LineageNode:
    """One thing that the run made; label is for people."""

    id: str
    kind: str
    label: str
    round: int
    arm: str


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """target came of source."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Each node and each edge once, in the order of the rounds; every edge joins two nodes."""

    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]


_Found = tuple[LineageNode, tuple[str, ...]]


def lineage_of(view: RunView) -> Lineage:
    """The graph of what is known so far."""
    nodes: dict[str, LineageNode] = {}
    inputs: list[LineageEdge] = []
    for part in view.rounds:
        for node, sources in _of_round(view, part):
            nodes.setdefault(node.id, node)
            inputs += [LineageEdge(source, node.id) for source in sources]
    edges = [edge for edge in dict.fromkeys(inputs) if edge.source in nodes and edge.source != edge.target]
    return Lineage(tuple(nodes.values()), tuple(edges))


def _of_round(view: RunView, part: RoundView) -> Iterator[_Found]:
    def node(name: str, label: str) -> LineageNode:
        return LineageNode(name, name.partition(":")[0], label, part.number, part.arm)

    plan = part.plan
    if plan is not None:
        yield node(f"plan:{plan.plan_id}", plan.kind.replace("_", " ")), _plan_inputs(view, part, plan)
    for batch in (part.batch, part.reviewed):
        if batch is not None and batch.artifact is not None:
            made_from = batch.reviewed_from
            source = f"batch:{made_from.sha256}" if made_from else f"plan:{plan.plan_id}" if plan else ""
            label = f"{batch.example_count} examples" + (", reviewed" if made_from else "")
            yield node(f"batch:{batch.artifact.sha256}", label), (source,)
    made = part.checkpoint
    if made is not None:
        yield node(_name(made), f"{made.kind} {made.artifact.sha256[:SHORT]}"), tuple(_checkpoint_inputs(part, made))
    evaluation = part.evaluation
    if evaluation is not None:
        measured = (_name(evaluation.checkpoint),) if evaluation.checkpoint else ()
        yield node(f"evaluation:{evaluation.evaluation_id}", _measured(evaluation)), measured
    for failure in part.failures:
        place = f"{failure.evaluation_id}/{failure.slice.slice_id}"
        yield node(f"failure:{place}", failure.slice.name), (f"evaluation:{failure.evaluation_id}",)
    for diagnosis in part.diagnoses:
        place = f"{diagnosis.evaluation_id}/{diagnosis.slice.slice_id}"
        yield node(f"diagnosis:{place}", f"{diagnosis.cause} ({diagnosis.confidence:.2f})"), (f"failure:{place}",)
    decision = part.decision
    if decision is not None and decision.checkpoint is not None:
        sha256 = decision.checkpoint.sha256
        sources = [f"checkpoint:{sha256}", *([f"evaluation:{evaluation.evaluation_id}"] if evaluation else ())]
        yield node(f"gate:{sha256}", "promoted" if decision.promoted else "rejected"), tuple(sources)


def _plan_inputs(view: RunView, part: RoundView, plan: Plan) -> tuple[str, ...]:
    """Diagnoses that the plan answers: those of its slices where it names any, else all of the last round before."""
    targets = {item.slice.slice_id for item in plan.items}
    earlier = [one for one in view.rounds if one.number < part.number and one.diagnoses and one.arm in ("", part.arm)]
    last = max(earlier, key=lambda one: (one.number, one.arm == part.arm), default=None)
    found = last.diagnoses if last else ()
    return tuple(
        f"diagnosis:{one.evaluation_id}/{one.slice.slice_id}"
        for one in found
        if not targets or one.slice.slice_id in targets
    )


def _checkpoint_inputs(part: RoundView, made: Checkpoint) -> Iterator[str]:
    if made.baseline is not None:
        yield f"checkpoint:{made.baseline.sha256}"
    trained_on = part.reviewed or part.batch
    if trained_on is not None and trained_on.artifact is not None:
        yield f"batch:{trained_on.artifact.sha256}"
    elif part.plan is not None:
        yield f"plan:{part.plan.plan_id}"


def _name(checkpoint: Checkpoint) -> str:
    return f"checkpoint:{checkpoint.artifact.sha256}"


def _measured(evaluation: Evaluation) -> str:
    accuracy = evaluation.accuracy
    return f"{accuracy.value:.1%} of {accuracy.n}" if accuracy.value is not None else "nothing measured"
