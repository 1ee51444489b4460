"""Turns what an evaluation found into its events. Knows outcomes and slices; knows neither stores nor models."""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.artifacts.store import Artifact
from mendloop.core.records import Outcome
from mendloop.core.tasks import Conditions
from mendloop.core.wire import artifact_ref, proportion, slice_message
from mendloop.evaluator.domain.scoring import Cost, failed_ids, paired, single_slices, tally
from mendloop.evaluator.domain.slices import SliceSearch, WeakSlice
from mendloop.v1 import common_pb2, evaluation_pb2

EXAMPLE_IDS = 20


def metering(cost: Cost) -> common_pb2.Metering:
    """The message of a cost; generation makes no estimate of floating-point operations."""
    return common_pb2.Metering(wall_s=cost.wall_s, gpu_s=cost.gpu_s, token_count=cost.token_count)


def completed(
    shard: evaluation_pb2.ShardScored,
    artifact: Artifact,
    outcomes: Sequence[Outcome],
    search: SliceSearch,
    *,
    axes: Sequence[str],
    weak_count: int,
    cost: Cost,
) -> evaluation_pb2.EvalCompleted:
    """The result of an evaluation, without its sealed comparison."""
    singles = single_slices(outcomes, axes=axes)
    slices = [*singles, *(found.conditions for found in search.weak if found.conditions not in singles)]
    return evaluation_pb2.EvalCompleted(
        position=shard.position,
        evaluation_id=shard.evaluation_id,
        checkpoint_ready=shard.checkpoint_ready,
        outcomes=artifact_ref(artifact),
        accuracy=proportion(*tally(outcomes)),
        slices=[
            evaluation_pb2.SliceScore(slice=slice_message(c), accuracy=proportion(*tally(outcomes, c))) for c in slices
        ],
        weak_slice_count=weak_count,
        metering=metering(cost),
    )


def failed(
    shard: evaluation_pb2.ShardScored,
    artifact: Artifact,
    outcomes: Sequence[Outcome],
    found: WeakSlice,
    *,
    threshold: float,
    weak_count: int,
) -> evaluation_pb2.EvalFailed:
    """The event of one weak slice."""
    return evaluation_pb2.EvalFailed(
        position=shard.position,
        evaluation_id=shard.evaluation_id,
        slice=slice_message(found.conditions),
        accuracy=proportion(*found.search),
        confirmation=proportion(*found.confirm),
        p_value=found.p_value,
        q_value=found.q_value,
        threshold=threshold,
        example_ids=failed_ids(outcomes, found.conditions, limit=EXAMPLE_IDS),
        outcomes=artifact_ref(artifact),
        checkpoint_ready=shard.checkpoint_ready,
        weak_slice_count=weak_count,
    )


def sealed_comparisons(
    baseline: Sequence[Outcome], candidate: Sequence[Outcome], *, axes: Sequence[str], targets: Sequence[Conditions]
) -> list[evaluation_pb2.SealedComparison]:
    """Paired counts over all sealed items, each axis value and each target slice: counts only, never an item."""
    slices: list[Conditions] = [(), *single_slices(candidate, axes=axes)]
    slices += [target for target in targets if tuple(target) not in slices]
    return [
        evaluation_pb2.SealedComparison(
            slice=slice_message(conditions),
            n=counts.n,
            only_baseline=counts.only_baseline,
            only_candidate=counts.only_candidate,
            both=counts.both,
        )
        for conditions in slices
        for counts in [paired(baseline, candidate, conditions)]
    ]
