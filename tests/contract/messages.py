"""Fills any message with deterministic values, every field set, for the golden bytes."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

MAX_DEPTH = 4


def filled(message: Message, *, depth: int = 0) -> Message:
    """The message with each field set to a value made of its number."""
    for field in message.DESCRIPTOR.fields:
        _fill(message, field, depth=depth)
    return message


def _fill(message: Message, field: FieldDescriptor, *, depth: int) -> None:
    if field.message_type is not None:
        if depth >= MAX_DEPTH:
            return
        child = getattr(message, field.name)
        filled(child.add() if field.is_repeated else child, depth=depth + 1)
        return
    value = _value(field)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _value(field: FieldDescriptor) -> object:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"{field.name}-é"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return field.name.encode() + b"\x00\xff"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return field.number + 0.25
    return 1000 + field.number
