"""The consume loop: takes events, runs handlers, stores receipts, completes in one transaction.

Knows envelopes, receipts, retries and dead letters; knows no service. A handler is a function (event) -> events.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextvars import copy_context
from dataclasses import dataclass

from google.protobuf.message import Message

from mendloop.bus.base import Bus, Consumer, Delivery
from mendloop.bus.receipts import Receipts
from mendloop.core.contracts import CONTROLLER, contract_of, decode, retry_topic
from mendloop.core.errors import Interrupted, InvalidEvent, MendloopError, Permanent, Retryable
from mendloop.core.events import (
    RETRY_ATTEMPT_HEADER,
    RETRY_NOT_BEFORE_HEADER,
    RETRY_TOPIC_HEADER,
    Envelope,
    envelope_for,
    stable_hash,
    trace_id_of,
)
from mendloop.core.telemetry import Telemetry
from mendloop.core.tracing import Handling, NoTracing, Tracing, place_of, placed
from mendloop.v1 import loop_pb2, operations_pb2

log = logging.getLogger(__name__)
HEARTBEAT_S = 0.5
POLL_S = 0.5
BUS_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """What a handler gets: the message, its id, and how to learn that the service stops."""

    message: Message
    event_id: str
    traceparent: str
    is_stopping: Callable[[], bool]

    @property
    def trace_id(self) -> str:
        """The W3C trace id; empty where the event carries none."""
        return trace_id_of(self.traceparent)


@dataclass(frozen=True, slots=True)
class Emit:
    """What a handler returns: a message, its key, and what makes its id.

    The id is a hash of handler, identity and message type; identity defaults to the input's id and the index.
    """

    message: Message
    key: str
    identity: str = ""
    subject: str = ""


Handler = Callable[[Event], Iterable[Emit]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter; attempts counts the first try."""

    attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 60.0

    def delay_s(self, attempt: int, *, rng: random.Random) -> float:
        """Seconds to wait after the given number of failed tries (full jitter, at least half the base)."""
        return max(self.base_s / 2, rng.uniform(0, min(self.cap_s, self.base_s * 2**attempt)))


class Worker:
    """Runs one service's handlers until it is told to stop."""

    def __init__(
        self,
        *,
        service: str,
        bus: Bus,
        handlers: Mapping[type[Message], Handler],
        receipts: Receipts,
        telemetry: Telemetry,
        member: str,
        retry: RetryPolicy = RetryPolicy(),
        rng: random.Random | None = None,
        exit_when_idle_s: float = 0.0,
        tracing: Tracing = NoTracing(),
    ) -> None:
        self._service, self._bus, self._receipts, self._telemetry = service, bus, receipts, telemetry
        self._handlers = {contract_of(message).event_type: handler for message, handler in handlers.items()}
        self._topics = [*(contract_of(message).topic for message in handlers), retry_topic(service)]
        self._member, self._retry, self._rng = member, retry, rng or random.Random()
        self._stop, self._tracing = threading.Event(), tracing
        telemetry.expect([*self._handlers, "unknown"])
        self._exit_when_idle_s, self._idle_since = exit_when_idle_s, time.monotonic()

    def stop(self) -> None:
        """Ask the loop to end; long handlers see it through Event.is_stopping."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped or idle for long enough; then give back what is unfinished. A bus away is waited for."""
        consumer = self._join()
        if consumer is None:
            return
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="handler") as pool:
                self._idle_since = time.monotonic()
                while not self._stop.is_set() and not self._is_drained():
                    self._turn(consumer, pool=pool)
        finally:
            consumer.close()

    def _join(self) -> Consumer | None:
        while not self._stop.is_set():
            try:
                consumer = self._bus.consumer(self._service, self._topics, member=self._member)
                self._telemetry.bus_answered()
                return consumer
            except Retryable as error:
                self._wait_for_bus(error)
        return None

    def _turn(self, consumer: Consumer, *, pool: ThreadPoolExecutor) -> None:
        try:
            delivery = consumer.poll(timeout_s=POLL_S)
            self._telemetry.alive()
            self._telemetry.bus_answered()
            if delivery is not None:
                with self._telemetry.working():
                    self._work(consumer, delivery, pool=pool)
                self._idle_since = time.monotonic()
        except Retryable as error:
            self._wait_for_bus(error)

    def _is_drained(self) -> bool:
        """Whether a job of a queue may end: idle for as long as it was told. A service that was not told goes on."""
        if not self._exit_when_idle_s or time.monotonic() - self._idle_since < self._exit_when_idle_s:
            return False
        log.info("no event came; the job ends", extra={"service": self._service, "idle_s": self._exit_when_idle_s})
        return True

    def _wait_for_bus(self, error: Retryable) -> None:
        self._telemetry.bus_failed()
        log.warning("the bus is away", extra={"service": self._service, "reason": str(error)})
        self._stop.wait(BUS_RETRY_S)
        self._idle_since = time.monotonic()  # what cannot be asked is no empty queue

    def _work(self, consumer: Consumer, delivery: Delivery, *, pool: ThreadPoolExecutor) -> None:
        envelope = delivery.envelope
        # No retry waits longer than the cap: a later time is somebody's mistake and would block the partition.
        if 0 < envelope.not_before - time.time() <= self._retry.cap_s * 2:
            consumer.defer(delivery, until=envelope.not_before)
            return
        handling = self._tracing.handle(envelope)
        with placed(place_of(envelope, handling)):
            handling.ended(self._handle(consumer, delivery, handling=handling, pool=pool))

    def _handle(self, consumer: Consumer, delivery: Delivery, *, handling: Handling, pool: ThreadPoolExecutor) -> str:
        """Work on one event; how it ended."""
        envelope, started = delivery.envelope, time.monotonic()
        try:
            result, outputs = self._outputs(consumer, envelope, handling=handling, pool=pool)
        except Interrupted:
            log.info("work given back", extra={"event_id": envelope.event_id, "service": self._service})
            consumer.defer(delivery, until=0)
            return "interrupted"
        except Retryable as error:
            result, outputs = self._retried(envelope, error)
        except Exception as error:  # the bus is where errors end: everything unexpected is a dead letter
            if not isinstance(error, Permanent):
                log.exception("handler failed", extra={"event_id": envelope.event_id, "service": self._service})
            result, outputs = "dead", [self._dead(envelope, error)]
        return self._complete(consumer, delivery, outputs=outputs, result=result, started=started)

    def _complete(
        self, consumer: Consumer, delivery: Delivery, *, outputs: Sequence[Envelope], result: str, started: float
    ) -> str:
        envelope = delivery.envelope
        try:
            try:
                consumer.complete(delivery, outputs=outputs)
            except Permanent as error:  # the bus will never take these outputs
                result = "dead"
                consumer.complete(delivery, outputs=[self._dead(envelope, error)])
        except Retryable as error:
            self._telemetry.add("mendloop_leases_lost")
            log.warning("completion failed; the event comes again", extra={"reason": str(error)})
            return "lost"
        known = envelope.event_type if envelope.event_type in self._handlers else "unknown"
        made_at = envelope.made_at
        self._telemetry.handled(
            known,
            result=result,
            seconds=time.monotonic() - started,
            latency_s=None if made_at is None else max(0.0, time.time() - made_at),
            trace_id=envelope.trace_id,
        )
        return result

    def _outputs(
        self, consumer: Consumer, envelope: Envelope, *, handling: Handling, pool: ThreadPoolExecutor
    ) -> tuple[str, Sequence[Envelope]]:
        envelope.require_headers()
        handler = self._handlers.get(envelope.event_type)
        if handler is None:
            raise InvalidEvent(f"{self._service} has no handler for {envelope.event_type!r}")
        stored = self._receipts.find(self._service, envelope.event_id)
        if stored is not None:
            log.info("receipt found; nothing is done twice", extra={"event_id": envelope.event_id})
            return "receipt", stored
        event = Event(
            decode(envelope.event_type, envelope.value),
            envelope.event_id,
            envelope.headers.get("traceparent", ""),
            self._stop.is_set,
        )
        context = copy_context()  # the handler's log lines carry the trace too
        future = pool.submit(lambda: context.run(lambda: list(handler(event))))
        emitted = _await(future, heartbeat=lambda: self._beat(consumer))
        outputs = [
            self._envelope(emit, index=i, cause=envelope, span_id=handling.span_id) for i, emit in enumerate(emitted)
        ]
        self._begin_rounds(event, envelope, outputs)
        self._receipts.store(self._service, envelope.event_id, outputs)
        return "ok", outputs

    def _beat(self, consumer: Consumer) -> None:
        self._telemetry.alive()
        try:
            consumer.heartbeat()
            self._telemetry.bus_answered()
        except MendloopError as error:  # the handler goes on; whether the event is still ours shows at completion
            self._telemetry.bus_failed()
            log.warning("heartbeat failed", extra={"service": self._service, "reason": str(error)})

    def _begin_rounds(self, event: Event, cause: Envelope, outputs: Sequence[Envelope]) -> None:
        """Root spans: the controller, which alone sees each request once, for the first round; else who opens it."""
        if self._service == CONTROLLER and isinstance(event.message, loop_pb2.LoopRequested):
            self._tracing.begin_round(cause, cause=None)
        begun = {cause.trace_id}
        for output in outputs:
            if output.trace_id not in begun:
                begun.add(output.trace_id)
                self._tracing.begin_round(output, cause=cause)

    def _envelope(self, emit: Emit, *, index: int, cause: Envelope, span_id: str) -> Envelope:
        identity = emit.identity or f"{cause.event_id}/{index}"
        name = emit.message.DESCRIPTOR.full_name
        return envelope_for(
            emit.message,
            event_id=stable_hash(self._service, name, identity)[:32],
            source=self._service,
            key=emit.key,
            subject=emit.subject,
            traceparent=cause.headers.get("traceparent", ""),
            span_id=span_id,
        )

    def _retried(self, envelope: Envelope, error: Retryable) -> tuple[str, list[Envelope]]:
        attempt = envelope.attempt + 1
        if attempt >= self._retry.attempts:
            return "dead", [self._dead(envelope, error)]
        delay_s = self._retry.delay_s(attempt, rng=self._rng)
        log.warning(
            "will be tried again",
            extra={"event_id": envelope.event_id, "attempt": attempt, "delay_s": delay_s, "reason": str(error)},
        )
        origin = envelope.headers.get(RETRY_TOPIC_HEADER, envelope.topic)
        headers = {
            **envelope.headers,
            RETRY_TOPIC_HEADER: origin,
            RETRY_ATTEMPT_HEADER: str(attempt),
            RETRY_NOT_BEFORE_HEADER: repr(time.time() + delay_s),
        }
        return "retry", [Envelope(retry_topic(self._service), envelope.key, envelope.value, headers)]

    def _dead(self, envelope: Envelope, error: Exception) -> Envelope:
        log.error("dead letter", extra={"event_id": envelope.event_id, "reason": str(error)})
        letter = operations_pb2.DeadLetter(
            topic=envelope.headers.get(RETRY_TOPIC_HEADER, envelope.topic),
            key=envelope.key,
            value=envelope.value,
            headers=[operations_pb2.HeaderValue(name=n, value=v) for n, v in sorted(envelope.headers.items())],
            handler=self._service,
            reason=f"{type(error).__name__}: {error}",
            attempt_count=envelope.attempt + 1,
            event_id=envelope.event_id,
        )
        identity = stable_hash(self._service, envelope.event_id, envelope.value, str(time.time_ns()))
        return envelope_for(
            letter,
            event_id=identity[:32],
            source=self._service,
            key=envelope.key,
            traceparent=envelope.headers.get("traceparent", ""),
        )


def _await(future: Future[list[Emit]], *, heartbeat: Callable[[], None]) -> list[Emit]:
    while True:
        try:
            return future.result(timeout=HEARTBEAT_S)
        except FutureTimeout:
            if future.done():
                return future.result()  # finished just now, or the handler itself raised a TimeoutError
            heartbeat()
