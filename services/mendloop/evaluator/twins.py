"""Measures a candidate and its baseline on fresh twins of the items that were weak: does the gain carry over?

Knows outcomes and sealed twins; knows no event beyond the checkpoint's. Only counts leave this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.errors import Permanent
from mendloop.core.events import stable_hash
from mendloop.core.records import Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import Conditions, matches
from mendloop.core.twins import original_of
from mendloop.core.wire import slice_message
from mendloop.evaluator.domain.draws import first_draws
from mendloop.evaluator.domain.scoring import Cost, total_cost, twin_cells
from mendloop.evaluator.domain.slices import find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules
from mendloop.evaluator.measurement import WHOLE, Measurement, shard_name
from mendloop.evaluator.ports import MeteredModel, OutcomeStore
from mendloop.v1 import checkpoint_pb2, evaluation_pb2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TwinRound:
    """The twins that a candidate and its baseline are measured on, and the slices that they belong to."""

    number: int
    baseline_id: str
    """Evaluation of the baseline on the open items."""
    baseline_rows: Sequence[Outcome]
    targets: Sequence[Conditions]
    items: Sequence[Item]

    def id_of(self, evaluation_id: str) -> str:
        """Under which the twins of an evaluated checkpoint are kept: other twins, other id."""
        return stable_hash("twins", evaluation_id, *sorted(item.item_id for item in self.items))[:32]


def twin_round(
    ready: checkpoint_pb2.CheckpointReady,
    spec: RunSpec,
    *,
    baseline_id: str,
    outcomes: OutcomeStore,
    sealed_store: ArtifactStore,
) -> TwinRound | None:
    """The twins of a candidate's round; None, with the reason logged where it is unexpected, where there are none."""
    if spec.twins is None or ready.kind != checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE or not ready.baseline.sha256:
        return None
    if ready.position.arm:
        return None  # no control is promoted, so none is put before items that nobody else may see
    found = outcomes.find(baseline_id, WHOLE)
    if found is None:
        facts = {"run_id": ready.position.run_id, "baseline_evaluation_id": baseline_id}
        log.warning("no twins", extra={**facts, "reason": "the baseline was not measured on this suite"})
        return None
    rows = outcomes.rows(found)
    targets = [weak.conditions for weak in find_weak_slices(rows, rules=SliceRules.of(spec.recipe.suite)).weak]
    wanted = {row.item_id for row in rows if any(matches(row.axes, target) for target in targets)}
    number = ready.position.round
    twins = get_rows(sealed_store, spec.twins, kind=Item)
    items = [twin for twin in twins if original_of(twin.item_id, number) in wanted]
    return TwinRound(number, baseline_id, rows, targets, items)


def measure_twins(
    found: TwinRound | None, candidate: Measurement, *, load_baseline: Callable[[], MeteredModel], kept_in: OutcomeStore
) -> Cost:
    """Score the shard's twins with the candidate, then with its baseline; what is kept is not scored again."""
    if found is None:
        return Cost()
    baseline_id, candidate_id = found.id_of(found.baseline_id), found.id_of(candidate.evaluation_id)
    after = replace(candidate, evaluation_id=candidate_id).scored(found.items, kept_in=kept_in)
    baseline = replace(candidate, evaluation_id=baseline_id, load=load_baseline)
    return total_cost([after.cost, baseline.scored(found.items, kept_in=kept_in).cost])


def twin_comparisons(
    found: TwinRound | None, candidate: Sequence[Outcome], *, candidate_id: str, shard_count: int, kept_in: OutcomeStore
) -> tuple[list[evaluation_pb2.TwinComparison], Cost]:
    """Paired counts of each weak slice, and what the twins cost. Raises Permanent where outcomes of twins are lost."""
    if found is None:
        return [], Cost()
    before, before_cost = _right(found, found.baseline_id, shard_count=shard_count, kept_in=kept_in)
    after, after_cost = _right(found, candidate_id, shard_count=shard_count, kept_in=kept_in)
    is_right = {row.item_id: row.is_correct for row in candidate}
    messages = []
    for target in found.targets:
        rows = [row for row in found.baseline_rows if matches(row.axes, target)]
        twinned = [row for row in rows if row.item_id in before]
        cells = twin_cells(
            (row.is_correct, is_right[row.item_id], before[row.item_id], after[row.item_id]) for row in twinned
        )
        messages.append(
            evaluation_pb2.TwinComparison(
                slice=slice_message(target), n=len(twinned), missing=len(rows) - len(twinned), counts=cells
            )
        )
    return messages, total_cost([before_cost, after_cost])


def _right(
    found: TwinRound, evaluation_id: str, *, shard_count: int, kept_in: OutcomeStore
) -> tuple[dict[str, bool], Cost]:
    """Whether the checkpoint got the twin of an item right, by the item's id."""
    name = found.id_of(evaluation_id)
    parts = [kept_in.find(name, shard_name(index, shard_count)) for index in range(shard_count)]
    rows = first_draws([row for part in parts if part is not None for row in kept_in.rows(part)])
    if {row.item_id for row in rows} != {item.item_id for item in found.items}:
        raise Permanent(
            f"evaluation {evaluation_id} has {len(rows)} outcomes for {len(found.items)} twins: outcomes were lost;"
            " start the evaluation again"
        )
    right = {original_of(row.item_id, found.number) or "": row.is_correct for row in rows}
    return right, total_cost(part.cost for part in parts if part is not None)
