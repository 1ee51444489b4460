"""Ids are reproducible and headers are CloudEvents."""

from __future__ import annotations

import re

import pytest

from mendloop.core.contracts import contract_of_type, decode
from mendloop.core.errors import InvalidEvent
from mendloop.core.events import Envelope, envelope_for, new_traceparent, stable_hash
from mendloop.v1 import common_pb2, loop_pb2


def test_hash_tells_parts_apart() -> None:
    assert stable_hash("ab", "c") != stable_hash("a", "bc")
    assert stable_hash("ab", b"c") == stable_hash(b"ab", "c")


def test_envelope_carries_the_cloudevents_headers() -> None:
    message = loop_pb2.LoopCancelled(position=common_pb2.RunPosition(run_id="r1"), reason="enough")
    envelope = envelope_for(message, event_id="e1", source="gateway", key="r1")
    assert envelope.topic == "mendloop.loop-cancelled.v1"
    assert envelope.headers["ce_specversion"] == "1.0"
    assert envelope.headers["ce_type"] == "mendloop.v1.LoopCancelled"
    assert envelope.headers["ce_subject"] == "r1"
    assert envelope.headers["content-type"] == "application/protobuf"
    assert decode(envelope.event_type, envelope.value) == message


def test_trace_goes_on_in_the_child() -> None:
    parent = new_traceparent()
    child = new_traceparent(parent)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", child)
    assert child.split("-")[1] == parent.split("-")[1]
    assert child.split("-")[2] != parent.split("-")[2]


def test_broken_traceparent_starts_a_new_trace() -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", new_traceparent("rubbish"))


def test_event_without_headers_is_refused_by_name() -> None:
    with pytest.raises(InvalidEvent, match="ce_id, ce_type, ce_source"):
        Envelope("t", "k", b"").require_headers()


def test_truncated_bytes_are_refused() -> None:
    with pytest.raises(InvalidEvent, match=r"2 bytes are not a mendloop\.v1\.LoopCancelled"):
        decode("mendloop.v1.LoopCancelled", b"\x0a\xff")


def test_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidEvent, match="EvalFailed"):
        contract_of_type("mendloop.v1.Nonsense")
