"""`mend subscribe`: prints events as they are committed."""

from __future__ import annotations

import json

import typer
from google.protobuf.json_format import MessageToDict

from mendloop.bus.base import Bus
from mendloop.runs.filters import EventFilter
from mendloop.runs.stream import StreamEvent, end_of, follow
from mendloop.runs.words import in_words


def print_events(bus: Bus, *, wanted: EventFilter, from_start: bool, as_json: bool) -> None:
    """Print matching events, one a line, until interrupted."""
    for event in follow(bus, cursor=None if from_start else end_of(bus), wanted=wanted):
        typer.echo(_as_json(event) if as_json else _in_words(event))


def _as_json(event: StreamEvent) -> str:
    content = MessageToDict(event.message, preserving_proto_field_name=True)
    return json.dumps({"headers": event.envelope.headers, "event": content}, ensure_ascii=False)


def _in_words(event: StreamEvent) -> str:
    headers = event.envelope.headers
    name = event.envelope.event_type.rpartition(".")[2]
    return (
        f"{headers.get('ce_time', '')[:19]} {headers.get('ce_subject', '')} {name} {in_words(event.message)}".rstrip()
    )
