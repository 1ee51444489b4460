"""`mend subscribe`: prints events as they are committed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import typer
from google.protobuf.json_format import MessageToDict

from mendloop.bus.base import Bus, Cursor
from mendloop.core.errors import Permanent
from mendloop.runs.filters import EventFilter
from mendloop.runs.stream import StreamEvent, decode_cursor, encode_cursor, end_of, follow
from mendloop.runs.words import in_words


def print_events(bus: Bus, *, wanted: EventFilter, from_start: bool, as_json: bool, resume: Path | None = None) -> None:
    """Print matching events, one a line, until interrupted.

    With a resume file, go on behind the event that was printed last; the file is written after the print, so that an
    interruption between the two prints that event again. Raises Permanent for a file that holds no cursor.
    """
    cursor = _kept(resume) if resume is not None else None
    if cursor is None and not from_start:
        cursor = end_of(bus)
    for event in follow(bus, cursor=cursor, wanted=wanted):
        typer.echo(_as_json(event) if as_json else _in_words(event))
        if resume is not None:
            _keep(resume, encode_cursor(event.cursor))


def _kept(path: Path) -> Cursor | None:
    """The cursor in a file; None where there is no file yet."""
    if not path.exists():
        return None
    try:
        return decode_cursor(path.read_text(encoding="utf-8").strip())
    except ValueError as error:
        raise Permanent(f"{path} cannot be resumed from: {error}; delete it to begin anew") from error


def _keep(path: Path, cursor: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(cursor, encoding="utf-8")
    os.replace(partial, path)


def _as_json(event: StreamEvent) -> str:
    content = MessageToDict(event.message, preserving_proto_field_name=True)
    document = {"cursor": encode_cursor(event.cursor), "headers": event.envelope.headers, "event": content}
    return json.dumps(document, ensure_ascii=False)


def _in_words(event: StreamEvent) -> str:
    headers = event.envelope.headers
    name = event.envelope.event_type.rpartition(".")[2]
    return (
        f"{headers.get('ce_time', '')[:19]} {headers.get('ce_subject', '')} {name} {in_words(event.message)}".rstrip()
    )
