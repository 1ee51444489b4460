"""`mend dlq`: look at dead letters and send them again."""

from __future__ import annotations

import json
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict

from mendloop.bus.base import Bus
from mendloop.bus.dead_letters import given_back
from mendloop.core.contracts import DEAD_LETTER_TOPIC, decode
from mendloop.core.errors import InvalidEvent
from mendloop.v1 import operations_pb2


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with the id that people type."""

    letter_id: str
    time: str
    message: operations_pb2.DeadLetter

    @property
    def event_type(self) -> str:
        """Type of the original event; empty where its headers could not be read."""
        return self._header("ce_type")

    @property
    def run_id(self) -> str:
        """The run that the original event is about; empty where its headers do not say."""
        return self._header("ce_subject")

    def _header(self, name: str) -> str:
        return next((header.value for header in self.message.headers if header.name == name), "")


def letters(bus: Bus) -> list[Letter]:
    """All dead letters, oldest first."""
    found: list[Letter] = []
    bus.ensure_topics([DEAD_LETTER_TOPIC])
    for delivery in bus.read([DEAD_LETTER_TOPIC], limit=100_000):
        message = decode(delivery.envelope.event_type, delivery.envelope.value)
        assert isinstance(message, operations_pb2.DeadLetter)
        found.append(Letter(delivery.envelope.event_id, delivery.envelope.headers.get("ce_time", ""), message))
    return found


def find_letter(bus: Bus, prefix: str) -> Letter:
    """The one letter whose id starts with the prefix. Raises InvalidEvent where none or several do."""
    found = [letter for letter in letters(bus) if letter.letter_id.startswith(prefix)]
    if len(found) != 1:
        raise InvalidEvent(f"{len(found)} dead letters start with {prefix!r}; `mend dlq list` shows all")
    return found[0]


def document(letter: Letter) -> dict[str, object]:
    """A letter as JSON values, with the original event decoded where that is possible."""
    message = letter.message
    try:
        content: object = MessageToDict(decode(letter.event_type, message.value), preserving_proto_field_name=True)
    except InvalidEvent as error:
        content = {"unreadable": str(error), "hex": message.value.hex()}
    return {
        "id": letter.letter_id,
        "time": letter.time,
        "handler": message.handler,
        "reason": message.reason,
        "attempts": message.attempt_count,
        "topic": message.topic,
        "key": message.key,
        "headers": {header.name: header.value for header in message.headers},
        "event": content,
    }


def as_json(letter: Letter) -> str:
    """A letter as indented JSON."""
    return json.dumps(document(letter), indent=2, ensure_ascii=False)


def replay(bus: Bus, letter: Letter) -> None:
    """Give the original event to the service that refused it, and to no other, as if it were new."""
    bus.publish([given_back(letter.message)])
