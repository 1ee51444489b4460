"""A member of a Kafka consumer group: one event in work at a time, membership kept while a handler works.

Knows partitions, prefetched records and rebalances; knows no event's meaning.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import MemberToRemove
from kafka.structs import MemberState, OffsetAndMetadata

from mendloop.bus.base import Delivery
from mendloop.bus.kafka_assignor import HeldFirst
from mendloop.bus.kafka_client import Clients, Record, repeated, translated
from mendloop.bus.kafka_transactions import Transactions
from mendloop.core.errors import MendloopError, Retryable
from mendloop.core.events import Envelope

log = logging.getLogger(__name__)

PREFETCH_COUNT = 200
SERVE_EVERY_S = 0.25
REJOIN_DEADLINE_S = 15.0
ANSWER_DEADLINE_MS = 10_000
TRAILING_EVERY_S = 1.0
SILENT_AFTER_S = 5.0
"""A coordinator that is away for longer is an outage; shorter: an election, which the client settles by itself."""
LEND_AFTER_S = 10.0
"""A handler at work for longer lends its member's other partitions to free members; shorter: not worth a rebalance."""


@dataclass(frozen=True, slots=True)
class _Held:
    delivery: Delivery
    place: TopicPartition
    since: float


class KafkaMember:
    """A group member on Kafka. All methods are called from one thread."""

    def __init__(self, clients: Clients, *, group: str, topics: Sequence[str], member: str) -> None:
        self._clients, self._group, self._member = clients, clients.wire(group), member
        self._held: _Held | None = None
        self._buffers: dict[TopicPartition, deque[Record]] = {}
        self._deferred: dict[TopicPartition, float] = {}
        self._unsettled: set[TopicPartition] = set()
        self._passed: dict[TopicPartition, int] = {}
        self._trailing: set[TopicPartition] = set()
        self._served_at = self._trailed_at = 0.0
        self._silent_since: float | None = None
        self._assignor = HeldFirst()
        self._transactions = Transactions(clients, transactional_id=f"mendloop.{group}.{member}")
        with translated(clients.place, f"{member} joins {group}"):
            self._consumer = clients.consumer(
                group_id=self._group,
                group_instance_id=member,
                partition_assignment_strategy=[self._assignor],
                max_poll_records=PREFETCH_COUNT,
            )
            self._transactions.settle()  # what an earlier process of this name left open would hold up its partitions
            self._consumer.subscribe(topics=[clients.wire(t) for t in topics], listener=_Rebalances(self))
            for topic in topics:  # known before the first join, else its assignment is empty and a second must follow
                self._consumer.partitions_for_topic(clients.wire(topic))

    def poll(self, *, timeout_s: float) -> Delivery | None:
        """The oldest event at hand of the partitions that are this member's, or None after the timeout.

        Raises Retryable where Kafka is away.
        """
        deadline = time.monotonic() + timeout_s
        with translated(self._clients.place, f"{self._member} polls for {self._group}"):
            self._settle()
            self._return_lent()
            if time.monotonic() - self._served_at > SERVE_EVERY_S:
                self._fetch(timeout_s=0.0)
            while True:
                record = self._oldest()
                if record is not None:
                    return self._hold(record)
                left = deadline - time.monotonic()
                if left <= 0:
                    self._require_coordinator()
                    return None
                self._fetch(timeout_s=min(left, self._until_due()))

    def complete(self, delivery: Delivery, *, outputs: Sequence[Envelope] = ()) -> None:
        """Publish the outputs and move past the delivery in one transaction.

        Raises Retryable where the partition was lost or Kafka is away (the event comes again), Permanent where Kafka
        will never take the outputs (the event is still in work).
        """
        doing = f"{self._member} completes {delivery.topic}/{delivery.partition}@{delivery.offset} for {self._group}"
        with translated(self._clients.place, doing):
            self._await_stable()
            held = self._held
            if held is None or held.delivery != delivery:
                raise Retryable(f"{doing}: the partition went to another member; nothing was published")
            offsets = {held.place: delivery.offset + 1}
            try:
                self._transactions.run(outputs, offsets=offsets, group=self._consumer.group_metadata())
            except kafka_errors.MessageSizeTooLargeError:
                raise
            except BaseException:
                self._held = None
                self._unsettled.add(held.place)
                raise
        self._held = None
        self._passed[held.place] = delivery.offset + 1
        self._trailing.add(held.place)

    def defer(self, delivery: Delivery, *, until: float) -> None:
        """Give the delivery back; this member leaves its partition alone until then."""
        held, self._held = self._held, None
        if held is None or held.delivery != delivery:
            return  # lost meanwhile: it is somebody else's already
        self._unsettled.add(held.place)
        self._deferred[held.place] = until

    def heartbeat(self) -> None:
        """Stay in the group while a handler works. Raises Retryable where Kafka is away."""
        with translated(self._clients.place, f"{self._member} heartbeats for {self._group}"):
            self._lend()
            self._serve(timeout_s=0.01)
            self._require_coordinator()

    def close(self) -> None:
        """Leave the group at once. A static member does not leave by closing, so it is removed by name."""
        identity = self._consumer.group_metadata().member_id
        self._held = None
        try:
            with translated(self._clients.place, f"{self._member} leaves {self._group}"):
                self._consumer.close(autocommit=False, timeout_ms=ANSWER_DEADLINE_MS)
                if identity:
                    with self._clients.admin() as admin:
                        leaver = MemberToRemove(member_id=identity, group_instance_id=self._member)
                        repeated(lambda: admin.remove_group_members(self._group, [leaver]))
        except MendloopError as error:
            log.warning("left without a word; the session ends by itself", extra={"reason": str(error)})
        finally:
            self._transactions.close()

    def on_assigned(self, places: Iterable[TopicPartition]) -> None:
        """A rebalance ended. The client goes on from its position on what stays; what went away is forgotten."""
        owned = set(places)
        self._buffers = {place: buffer for place, buffer in self._buffers.items() if place in owned}
        self._deferred = {place: until for place, until in self._deferred.items() if place in owned}
        self._passed = {place: offset for place, offset in self._passed.items() if place in owned}
        self._trailing &= owned
        if self._held is not None and self._held.place not in owned:
            log.warning("lost the partition in work", extra={"member": self._member, "topic": self._held.place.topic})
            self._held = self._assignor.held = None

    def on_lost(self) -> None:
        """The membership lapsed: others may have the partitions, the one in work too."""
        self.on_assigned(())

    def _hold(self, record: Record) -> Delivery:
        delivery = self._clients.delivery(record)
        place = TopicPartition(record.topic, record.partition)
        self._held = _Held(delivery, place, time.monotonic())
        self._assignor.held = (place.topic, place.partition)
        return delivery

    def _oldest(self) -> Record | None:
        if not self._is_stable():
            return None  # what is at hand may be another member's after the rebalance
        now = time.time()
        heads = [(buffer[0].timestamp, place) for place, buffer in self._buffers.items() if buffer]
        due = [head for head in heads if self._deferred.get(head[1], 0.0) <= now]
        if not due:
            return None
        _, place = min(due)
        self._deferred.pop(place, None)
        return self._buffers[place].popleft()

    def _until_due(self) -> float:
        waits = [until - time.time() for place, until in self._deferred.items() if self._buffers.get(place)]
        return max(0.0, min(waits, default=float("inf")))

    def _fetch(self, *, timeout_s: float) -> None:
        assignment = self._consumer.assignment()
        full = {place for place in assignment if self._buffers.get(place)}
        self._consumer.pause(*full)
        self._consumer.resume(*(assignment - full))
        if not self._poll_client(timeout_s=timeout_s):
            self._commit_trailing()

    def _serve(self, *, timeout_s: float) -> None:
        """Let the client do its group work and fetch no more than what is behind events that this member completed."""
        assignment, behind = self._consumer.assignment(), self._quiet()
        self._consumer.pause(*(assignment - behind))
        self._consumer.resume(*behind)
        if not self._poll_client(timeout_s=timeout_s):
            self._commit_trailing()

    def _poll_client(self, *, timeout_s: float) -> bool:
        coordinator = self._consumer._coordinator
        if self._consumer.group_metadata().state == MemberState.REBALANCING and not coordinator.need_rejoin():
            # A leader that rejoined for new metadata and whose poll timed out before the answer forgets to take the
            # answer up (kafka-python 3.0.12) and owns nothing for ever, polling at full speed. Joining again ends that.
            coordinator.request_rejoin()
        records = self._consumer.poll(timeout_ms=timeout_s * 1000)
        for place, batch in records.items():
            self._buffers.setdefault(place, deque()).extend(batch)
        self._served_at = time.monotonic()
        return bool(records)

    def _require_coordinator(self) -> None:
        """Raise where the group's coordinator is away: the client's poll answers with no records then, as if idle."""
        coordinator, now = self._consumer._coordinator, time.monotonic()
        known = coordinator.coordinator_id
        if known is not None and self._consumer._client.connected(known):
            self._silent_since = None
            return
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since > SILENT_AFTER_S:
            raise kafka_errors.NodeNotReadyError(f"no coordinator for {now - self._silent_since:.0f} s")

    def _is_stable(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def _await_stable(self) -> None:
        deadline = time.monotonic() + REJOIN_DEADLINE_S
        if time.monotonic() - self._served_at > SERVE_EVERY_S:
            self._serve(timeout_s=0.0)
        while not self._is_stable():
            if time.monotonic() > deadline:
                raise kafka_errors.KafkaTimeoutError("the group did not settle after a rebalance")
            self._serve(timeout_s=0.1)

    def _settle(self) -> None:
        """Go back to the committed offset of partitions whose last event was given back or whose commit is unknown."""
        if self._held is not None:  # polled on without completing: the event is given back
            self._unsettled.add(self._held.place)
            self._held = None
        self._assignor.held = None
        if not self._unsettled:
            return
        self._transactions.settle()
        for place in sorted(self._unsettled & self._consumer.assignment()):
            self._buffers.pop(place, None)
            offset = self._consumer.committed(place, timeout_ms=ANSWER_DEADLINE_MS)
            if offset is None:
                self._consumer.seek_to_beginning(place)
            else:
                self._consumer.seek(place, offset)
            self._passed.pop(place, None)
        self._unsettled.clear()

    def _commit_trailing(self) -> None:
        """Commit past what is no event: markers and aborted transactions, which KEDA counts as lag until then.

        Also what others left: nobody else would ever pass it, and a service would never go to zero.
        """
        if time.monotonic() - self._trailed_at < TRAILING_EVERY_S or not self._is_stable():
            return
        self._trailed_at = time.monotonic()
        # Not `position`: it walks over all partitions, and may ask the broker, for each one that it is asked about.
        positions = self._consumer._subscription.all_consumed_offsets()
        ends = {place: positions[place].offset for place in self._quiet() & positions.keys()}
        ends = {place: end for place, end in ends.items() if end > self._passed.get(place, -1)}
        if not ends:
            return
        with contextlib.suppress(kafka_errors.KafkaError):  # a rebalance; a second later it is tried again
            committed = {place: OffsetAndMetadata(end, "", -1) for place, end in ends.items()}
            self._consumer.commit(committed, timeout_ms=ANSWER_DEADLINE_MS)
            self._passed.update(ends)
            self._trailing -= ends.keys()

    def _quiet(self) -> set[TopicPartition]:
        """Partitions without an event at hand; while one is at work only those on which this member completed one."""
        assigned: set[TopicPartition] = self._consumer.assignment() - self._unsettled
        quiet = {place for place in assigned if not self._buffers.get(place)}
        return quiet if self._held is None else (quiet & self._trailing) - {self._held.place}

    def _lend(self) -> None:
        held = self._held
        if held is None or self._assignor.is_busy or self._assignor.member_count < 2:
            return
        if time.monotonic() - held.since > LEND_AFTER_S and len(self._consumer.assignment()) > 1:
            self._assignor.is_busy = True
            self._rejoin()

    def _return_lent(self) -> None:
        if self._assignor.is_busy:
            self._assignor.is_busy = False
            self._rejoin()

    def _rejoin(self) -> None:
        self._consumer._coordinator.request_rejoin()  # kafka-python has no public twin of Java's enforceRebalance


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped package
    """Passes the client's callbacks on; they run while the member's own thread waits in poll."""

    def __init__(self, member: KafkaMember) -> None:
        self._member = member

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        pass  # said before each rebalance about everything; what is really taken shows at its end

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._member.on_assigned(assigned)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._member.on_lost()
