"""The bus on Apache Kafka: transactions, consumer groups, reading by offset, all on committed events only.

Knows topics and clients; knows no event's meaning. Why it is as it is: docs/decisions/kafka-client.md.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence

from kafka import TopicPartition
from kafka import errors as kafka_errors

from mendloop.bus.base import Backlog, Cursor, Delivery
from mendloop.bus.kafka_client import Clients, repeated, translated
from mendloop.bus.kafka_consumer import KafkaMember
from mendloop.bus.kafka_log import LogReader
from mendloop.bus.kafka_transactions import Transactions
from mendloop.core.events import Envelope, stable_hash

EXACT_LAG_LIMIT = 10_000
QUICK_LAG_LIMIT = 500
TOPIC_DEADLINE_MS = 30_000
_NAME_LENGTH = 200


class KafkaBus:
    """A bus on the brokers at HOST:PORT[,HOST:PORT].

    Options are those of kafka-python, as text (security_protocol, sasl_mechanism, ssl_cafile, session_timeout_ms, …),
    partition_count and replication_factor for topics that it creates, and name_prefix for the names of topics and
    groups on a cluster that others use too. publish, read and lag may be called from
    several threads. Raises Retryable where the broker is away, InvalidRecipe for an unknown option.
    """

    def __init__(self, place: str, *, options: Mapping[str, str] | None = None) -> None:
        self._place = place
        self._clients = Clients(place, options=options or {})
        self._publisher = Transactions(self._clients, transactional_id=f"mendloop.publisher.{uuid.uuid4().hex}")
        self._reader, self._counter = LogReader(self._clients), LogReader(self._clients)
        self._publishing, self._reading, self._counting = threading.Lock(), threading.Lock(), threading.Lock()

    def ensure_topics(self, topics: Iterable[str]) -> None:
        """Create the topics that do not exist."""
        with translated(self._place, "creating topics"), self._clients.admin() as admin:
            missing = sorted({self._clients.wire(topic) for topic in topics} - set(admin.list_topics()))
            if not missing:
                return
            shape = {
                "num_partitions": self._clients.partition_count,
                "replication_factor": self._clients.replication_factor,
            }
            answer = admin.create_topics(dict.fromkeys(missing, shape), raise_errors=False)
            for topic in answer["topics"]:
                error = kafka_errors.for_code(topic["error_code"])
                if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):  # another was first
                    raise error(f"{topic['name']}: {topic['error_message']}")
            # A topic is listed some time after it was made; on a busy machine that takes a while.
            admin.wait_for_topics(missing, timeout_ms=TOPIC_DEADLINE_MS)

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Append all events or none."""
        if not envelopes:
            return
        with self._publishing, translated(self._place, f"publishing {len(envelopes)} event(s)"):
            self._publisher.run(envelopes)

    def consumer(self, group: str, topics: Sequence[str], *, member: str) -> KafkaMember:
        """Join a group; a group that is new starts at the oldest event."""
        self.ensure_topics(topics)
        return KafkaMember(self._clients, group=group, topics=topics, member=_instance_name(member))

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Committed events from the cursor on, by time stamp over partitions and in order within one, at most limit."""
        with self._reading, translated(self._place, "reading the log"):
            return self._reader.read(topics, cursor=cursor or {}, limit=limit)

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Committed events that the group has not completed.

        Exact up to EXACT_LAG_LIMIT; what is beyond is counted by offsets, which count transaction markers too.
        """
        with self._counting, translated(self._place, f"counting the lag of {group}"):
            starts = self._starts(group, topics)
            return self._counter.count(starts, limit=EXACT_LAG_LIMIT) if starts else 0

    def backlog(self, group: str, topics: Sequence[str]) -> Backlog:
        """The same with the oldest of these events; counted by offsets beyond QUICK_LAG_LIMIT."""
        with self._counting, translated(self._place, f"looking at the backlog of {group}"):
            starts = self._starts(group, topics)
            if not starts:
                return Backlog(0)
            cursor: Cursor = {topic: {} for topic in topics}
            for place, start in starts.items():
                cursor[place.topic.removeprefix(self._clients.prefix)][place.partition] = start
            oldest = self._counter.read(topics, cursor=cursor, limit=1)
            return Backlog(self._counter.count(starts, limit=QUICK_LAG_LIMIT), oldest[0] if oldest else None)

    def _starts(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Where the group stands in each partition; empty where it stands at the end of all."""
        ends = self._counter.ends(topics)
        committed = self._committed(self._clients.wire(group), list(ends))
        behind = {place: committed.get(place, 0) for place, end in ends.items() if committed.get(place, 0) < end}
        return {place: behind.get(place, end) for place, end in ends.items()} if behind else {}

    def close(self) -> None:
        """Release connections."""
        with translated(self._place, "closing"):
            self._publisher.close()
            self._reader.close()
            self._counter.close()

    def _committed(self, group: str, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        with self._clients.admin() as admin:
            offsets = repeated(lambda: admin.list_group_offsets({group: places})).get(group, {})
        return {place: max(0, found.offset) for place, found in offsets.items()}


def _instance_name(member: str) -> str:
    """The member's name as Kafka allows it: letters, digits, dot, dash, underscore; one name stays one name."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", member)[:_NAME_LENGTH]
    return plain if plain == member and plain not in {"", ".", ".."} else f"{plain}-{stable_hash(member)[:8]}"
