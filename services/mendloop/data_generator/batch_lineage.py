"""A batch in the lineage, and which arm of its round it is of. Knows plans and filled orders; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mendloop.artifacts import lineage
from mendloop.artifacts.store import Artifact
from mendloop.core.arms import DIRECTLY_SAMPLED, ORACLE, RANDOM
from mendloop.core.errors import InvalidEvent
from mendloop.data_generator.domain.batch import Filled
from mendloop.data_generator.domain.ledger import Ledger
from mendloop.v1 import intervention_pb2

_CONTROLS = {
    intervention_pb2.CONTROL_ARM_UNSPECIFIED: "",
    intervention_pb2.CONTROL_ARM_RANDOM: RANDOM,
    intervention_pb2.CONTROL_ARM_DIRECTLY_SAMPLED: DIRECTLY_SAMPLED,
    intervention_pb2.CONTROL_ARM_ORACLE: ORACLE,
}


def control_of(plan: intervention_pb2.InterventionPlanned) -> str:
    """The control arm that a plan is of; empty for the main arm. Raises InvalidEvent for one that we do not know."""
    if plan.control not in _CONTROLS:
        raise InvalidEvent(f"plan {plan.plan_id} is of control arm {plan.control}, which this version does not know")
    return _CONTROLS[plan.control]


def batch_node(
    plan: intervention_pb2.InterventionPlanned,
    *,
    batch: Artifact,
    filled: Sequence[Filled],
    ledger: Ledger,
    facts: Mapping[str, object],
) -> lineage.Node:
    """A batch's place in the lineage: what was ordered, found and dropped, and where the examples come from."""
    told = {
        "examples": sum(len(part.examples) for part in filled),
        "ordered": sum(part.order.count for part in filled),
        "slices": [
            {
                "slice": part.order.name,
                "ordered": part.order.count,
                "found": len(part.examples),
                "seed": part.order.seed,
            }
            for part in filled
        ],
        "sources": _source_counts(filled),
        "drops": [asdict(row) for row in ledger.rows()],
        **facts,
    }
    return lineage.Node(f"batch:{batch.sha256}", plan.position.run_id, (f"plan:{plan.plan_id}",), told)


def _source_counts(filled: Sequence[Filled]) -> dict[str, int]:
    names = [example.source for part in filled for example in part.examples]
    return {name: names.count(name) for name in sorted(set(names))}
