"""Turns shared values into protobuf and back, so that domain code never sees a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mendloop.artifacts.store import Artifact
from mendloop.core.events import stable_hash
from mendloop.core.fixes import Fix
from mendloop.core.intervals import clopper_pearson
from mendloop.core.tasks import Conditions
from mendloop.v1 import common_pb2, diagnosis_pb2


def artifact_ref(artifact: Artifact | None) -> common_pb2.ArtifactRef:
    """The message of an artifact; an empty one for None."""
    if artifact is None:
        return common_pb2.ArtifactRef()
    return common_pb2.ArtifactRef(
        uri=artifact.uri, sha256=artifact.sha256, byte_count=artifact.byte_count, media_type=artifact.media_type
    )


def artifact_of(ref: common_pb2.ArtifactRef) -> Artifact:
    """The artifact of a message; raises ValueError for an empty one."""
    if not ref.sha256:
        raise ValueError("the event carries no artifact where one is needed")
    return Artifact(ref.uri, ref.sha256, ref.byte_count, ref.media_type)


def slice_message(conditions: Conditions) -> common_pb2.CapabilitySlice:
    """The message of a slice, with its stable id."""
    ordered = sorted(conditions)
    slice_id = stable_hash(*(f"{axis}={value}" for axis, value in ordered))[:16]
    values = [common_pb2.AxisValue(axis=axis, value=value) for axis, value in ordered]
    return common_pb2.CapabilitySlice(slice_id=slice_id, conditions=values)


def conditions_of(message: common_pb2.CapabilitySlice) -> tuple[tuple[str, str], ...]:
    """The (axis, value) pairs of a slice."""
    return tuple((condition.axis, condition.value) for condition in message.conditions)


def slice_name(conditions: Conditions) -> str:
    """A slice in words: `operation=jump ∧ output=long`, or `all items`."""
    return " ∧ ".join(f"{axis}={value}" for axis, value in sorted(conditions)) or "all items"


def fix_messages(fixes: Sequence[Fix]) -> list[diagnosis_pb2.SettingFix]:
    """The messages of repaired settings."""
    return [diagnosis_pb2.SettingFix(setting=fix.setting, value_json=fix.value_json) for fix in fixes]


def fixes_of(messages: Iterable[diagnosis_pb2.SettingFix]) -> tuple[Fix, ...]:
    """The repaired settings of messages."""
    return tuple(Fix(message.setting, message.value_json) for message in messages)


def proportion(correct: int, n: int) -> common_pb2.Proportion:
    """A proportion with its exact 95 % interval."""
    low, high = clopper_pearson(correct, n)
    return common_pb2.Proportion(n=n, correct=correct, low=low, high=high)
