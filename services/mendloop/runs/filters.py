"""Which events a reader wants: by run, type, cause and slice. Knows messages; knows no bus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import Message

from mendloop.core.contracts import TYPE_PREFIX, contract_of_type
from mendloop.core.errors import InvalidEvent
from mendloop.core.wire import conditions_of
from mendloop.runs.fold import run_of
from mendloop.runs.messages import cause_name
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Each non-empty field must match; within a field one match suffices. An event without slice matches no slice."""

    runs: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    causes: frozenset[str] = frozenset()
    slices: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        runs: Iterable[str] = (),
        types: Iterable[str] = (),
        causes: Iterable[str] = (),
        slices: Iterable[str] = (),
    ) -> Self:
        """A filter of what people type. Raises ValueError for an unknown type or cause, naming the known ones.

        Types go with or without mendloop.v1., causes in any case with or without CAUSE_. A slice is an id, or
        conditions joined by commas (operation=jump,output=long): a slice matches where it has all of them.
        """
        return cls(
            frozenset(runs),
            frozenset(map(_type, types)),
            frozenset(map(_cause, causes)),
            frozenset(map(_slice, slices)),
        )

    def matches(self, message: Message) -> bool:
        """Whether a reader wants the message."""
        if self.runs and run_of(message) not in self.runs:
            return False
        if self.types and message.DESCRIPTOR.full_name not in self.types:
            return False
        if self.causes and self.causes.isdisjoint(_causes(message)):
            return False
        return not self.slices or any(_is(wanted, found) for found in _slices(message) for wanted in self.slices)


def _type(name: str) -> str:
    full = name if name.startswith(TYPE_PREFIX) else TYPE_PREFIX + name
    try:
        return contract_of_type(full).event_type
    except InvalidEvent as error:
        raise ValueError(str(error)) from None


def _cause(name: str) -> str:
    plain = name.upper().removeprefix("CAUSE_")
    known = [value.name.removeprefix("CAUSE_") for value in diagnosis_pb2.Cause.DESCRIPTOR.values]
    if plain not in known:
        raise ValueError(f"unknown cause {name!r}; known are {', '.join(known)}")
    return plain


def _slice(name: str) -> str:
    return ",".join(sorted(part.strip() for part in name.replace("∧", ",").split(",") if part.strip()))


def _is(wanted: str, found: common_pb2.CapabilitySlice) -> bool:
    if wanted == found.slice_id:
        return True
    conditions = {f"{axis}={value}" for axis, value in conditions_of(found)}
    return bool(wanted) and set(wanted.split(",")) <= conditions


def _slices(message: Message) -> Iterator[common_pb2.CapabilitySlice]:
    if isinstance(message, evaluation_pb2.EvalFailed | diagnosis_pb2.DiagnosisReady):
        yield message.slice
    if isinstance(message, intervention_pb2.InterventionPlanned):
        yield from (item.slice for item in message.items)
    if isinstance(message, intervention_pb2.DataBatchReady):
        yield from (item.slice for item in message.plan.items)
    if isinstance(message, checkpoint_pb2.CheckpointPromoted | checkpoint_pb2.CheckpointRejected):
        yield from (gate.slice for gate in message.gates)


def _causes(message: Message) -> Iterator[str]:
    if isinstance(message, diagnosis_pb2.DiagnosisReady):
        yield cause_name(message.cause)
    if isinstance(message, intervention_pb2.InterventionPlanned):
        yield from (cause_name(item.cause) for item in message.items)
    if isinstance(message, intervention_pb2.DataBatchReady):
        yield from (cause_name(item.cause) for item in message.plan.items)
