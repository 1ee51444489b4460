"""Transactions on Kafka: outputs and the consumed offset become visible together or not at all.

Knows producers and their failures; knows no group assignment.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from mendloop.bus.kafka_client import Clients, headers_of
from mendloop.core.events import Envelope

COMMIT_DEADLINE_S = 10.0
ABORT_DEADLINE_S = 5.0


class Transactions:
    """One transactional producer, made when first needed and made anew after a failure it cannot recover from.

    A new one under the same id aborts what the old one left open and fences it off.
    """

    def __init__(self, clients: Clients, *, transactional_id: str) -> None:
        self._clients, self._id = clients, clients.wire(transactional_id)
        self._producer: KafkaProducer | None = None

    def run(
        self,
        envelopes: Sequence[Envelope],
        *,
        offsets: Mapping[TopicPartition, int] | None = None,
        group: ConsumerGroupMetadata | None = None,
    ) -> None:
        """Publish all events and move the group's offsets, or nothing. Raises a KafkaError.

        After an error the outcome is settled only once settle() has returned: a commit whose answer was lost may
        have succeeded.
        """
        producer = self._ready()
        try:
            self._attempt(producer, envelopes, offsets=offsets, group=group)
        except kafka_errors.KafkaTimeoutError:
            self._discard()  # the broker is away: an abort would wait as long again
            raise
        except BaseException:
            self._abandon()
            raise

    def settle(self) -> None:
        """Return when no transaction of this id is open on the broker. Raises a KafkaError."""
        self._ready()

    def close(self) -> None:
        """Let the producer go."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(kafka_errors.KafkaError):
                producer.close(timeout=1)

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            producer = self._clients.producer(transactional_id=self._id)
            try:
                producer.init_transactions()
            except BaseException:
                with contextlib.suppress(kafka_errors.KafkaError):
                    producer.close(timeout=0)
                raise
            self._producer = producer
        return self._producer

    def _attempt(
        self,
        producer: KafkaProducer,
        envelopes: Sequence[Envelope],
        *,
        offsets: Mapping[TopicPartition, int] | None,
        group: ConsumerGroupMetadata | None,
    ) -> None:
        deadline = time.monotonic() + COMMIT_DEADLINE_S
        producer.begin_transaction()
        for e in envelopes:
            sent = producer.send(self._clients.wire(e.topic), key=e.key.encode(), value=e.value, headers=headers_of(e))
            if sent.failed():  # an unknown topic: the commit would not notice, as it does where the broker refuses
                raise sent.exception
        manager = producer._transaction_manager
        if offsets:
            places = {place: OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
            _wait(producer, manager.send_offsets_to_transaction(places, group), deadline=deadline)
        _wait(producer, manager.begin_commit(), deadline=deadline)  # fails where an event could not be sent

    def _abandon(self) -> None:
        producer = self._producer
        if producer is None:
            return
        try:
            _wait(producer, producer._transaction_manager.begin_abort(), deadline=time.monotonic() + ABORT_DEADLINE_S)
        except kafka_errors.KafkaError:
            self._discard()

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(kafka_errors.KafkaError):
                producer.close(timeout=0)


def _wait(producer: KafkaProducer, result: object, *, deadline: float) -> None:
    # KafkaProducer's own methods wait without end while the broker is away; a service must still hear SIGTERM.
    producer._sender.wakeup()
    if not result.wait(timeout_ms=max(0.0, deadline - time.monotonic()) * 1000):  # type: ignore[attr-defined]  # untyped package
        raise kafka_errors.KafkaTimeoutError("no answer to a transaction request in time")
