"""Slices as they are stored, and the accuracy of their items on earlier checkpoints. Knows stores; knows no model.

A slice's definition lies under slices/<slice id>/<version>, what a run measured under run-evaluations/<run id>.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.events import stable_hash
from mendloop.core.records import Outcome
from mendloop.core.tasks import Conditions, matches
from mendloop.core.wire import artifact_of, artifact_ref, proportion, slice_message, slice_name
from mendloop.v1 import evaluation_pb2

SLICES, EVALUATIONS = "slices", "run-evaluations"


@dataclass(frozen=True, slots=True)
class StoredSlice:
    """A slice at one version: what defines it and which items that selects."""

    slice_id: str
    version: str
    name: str
    conditions: tuple[tuple[str, str], ...]
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation of a run."""

    round: int
    arm: str
    evaluation_id: str
    checkpoint: Artifact
    outcomes: Artifact

    @staticmethod
    def read(document: bytes) -> Measured:
        """The evaluation in a stored document."""
        fields = json.loads(document)
        places = {name: Artifact(**fields[name]) for name in ("checkpoint", "outcomes")}
        return Measured(**{**fields, **places})


class SliceHistory:
    """The slices and evaluations of all runs, in an artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def keep(self, conditions: Conditions, outcomes: Sequence[Outcome]) -> StoredSlice:
        """Store a slice with its items. The same definition over the same items is the same version in every run."""
        ids = tuple(sorted({row.item_id for row in outcomes if matches(row.axes, conditions)}))
        slice_id = slice_message(conditions).slice_id
        version = stable_hash("slice", slice_id, *ids)[:12]
        stored = StoredSlice(slice_id, version, slice_name(conditions), tuple(sorted(conditions)), ids)
        self._store.put_doc(f"{SLICES}/{slice_id}", version, json.dumps(asdict(stored)).encode())
        return stored

    def slice_of(self, slice_id: str, version: str) -> StoredSlice | None:
        """A stored slice, or None."""
        raw = self._store.get_doc(f"{SLICES}/{slice_id}", version)
        if raw is None:
            return None
        document = json.loads(raw)
        conditions = tuple((axis, value) for axis, value in document["conditions"])
        return StoredSlice(**{**document, "conditions": conditions, "item_ids": tuple(document["item_ids"])})

    def versions(self, slice_id: str) -> list[str]:
        """Versions of a slice, in no order of time."""
        return self._store.doc_names(f"{SLICES}/{slice_id}")

    def note(self, shard: evaluation_pb2.ShardScored, outcomes: Artifact) -> None:
        """Remember what a run measured, so that later rounds can look back."""
        position = shard.position
        checkpoint = artifact_of(shard.checkpoint_ready.checkpoint)
        measured = Measured(position.round, position.arm, shard.evaluation_id, checkpoint, outcomes)
        name = f"{position.round:06d}-{position.arm}-{shard.evaluation_id}"
        document = json.dumps(asdict(measured), sort_keys=True).encode()
        self._store.put_doc(f"{EVALUATIONS}/{position.run_id}", name, document)

    def trends(
        self, shard: evaluation_pb2.ShardScored, slices: Sequence[StoredSlice]
    ) -> list[list[evaluation_pb2.SlicePoint]]:
        """For each slice its items' accuracy in the earlier rounds of the run and arm, oldest first.

        Items are followed by id, so that an axis that was read otherwise in an earlier round changes nothing. Only
        rounds before the shard's own count: they are complete, and a redelivery sees the same.
        """
        points: list[list[evaluation_pb2.SlicePoint]] = [[] for _ in slices]
        for measured in self._earlier(shard) if slices else []:
            rows = get_rows(self._store, measured.outcomes, kind=Outcome)
            right = {row.item_id: row.is_correct for row in rows}
            for of_slice, stored in zip(points, slices, strict=True):
                found = [right[item_id] for item_id in stored.item_ids if item_id in right]
                if found:
                    of_slice.append(_point(measured, correct=sum(found), n=len(found)))
        return points

    def _earlier(self, shard: evaluation_pb2.ShardScored) -> list[Measured]:
        namespace, position = f"{EVALUATIONS}/{shard.position.run_id}", shard.position
        raw = [self._store.get_doc(namespace, name) for name in self._store.doc_names(namespace)]
        found = [Measured.read(document) for document in raw if document is not None]
        return [m for m in found if m.round < position.round and m.arm in ("", position.arm)]


def _point(measured: Measured, *, correct: int, n: int) -> evaluation_pb2.SlicePoint:
    return evaluation_pb2.SlicePoint(
        round=measured.round,
        evaluation_id=measured.evaluation_id,
        checkpoint=artifact_ref(measured.checkpoint),
        accuracy=proportion(correct, n),
    )
