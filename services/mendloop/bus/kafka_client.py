"""What all Kafka clients of the bus share: options, the shape of records, and what a client's error means to the loop.

Knows kafka-python's settings; knows neither groups nor transactions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors

from mendloop.bus.base import Delivery
from mendloop.core.errors import InvalidRecipe, Permanent, Retryable
from mendloop.core.events import Envelope

DEFAULT_PARTITION_COUNT = 8
CONNECT_DEADLINE_MS = 10_000
ANSWER_DEADLINE_S = 10.0
REPEAT_AFTER_S = 0.05

PARTITION_COUNT_OPTION = "partition_count"
REPLICATION_OPTION = "replication_factor"
PREFIX_OPTION = "name_prefix"

# kafka-python sleeps for retry_backoff_ms before it repeats a request. The first request of a transaction is refused
# (CONCURRENT_TRANSACTIONS) while the broker still writes the markers of the transaction before: with the default of
# 100 ms each transaction takes 106 ms, with 2 ms it takes as long as the broker needs. docs/decisions/kafka-client.md.
_PRODUCER = {"retry_backoff_ms": 2, "max_block_ms": 15_000, "transaction_timeout_ms": 6_000, "metrics_enabled": False}
_CONSUMER = {
    "isolation_level": "read_committed",
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "allow_auto_create_topics": False,
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 1_000,
    "metrics_enabled": False,
}
_ALL = {"bootstrap_timeout_ms": CONNECT_DEADLINE_MS, "reconnect_backoff_max_ms": 1_000}
_FIXED = {
    "bootstrap_servers",
    "enable_auto_commit",
    "enable_idempotence",
    "acks",
    "group_id",
    "group_instance_id",
    "isolation_level",
    "partition_assignment_strategy",
    "transactional_id",
}


Result = TypeVar("Result")


class Record(Protocol):
    """A consumed record as kafka-python gives it; timestamp in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class _Refusals(logging.Handler):
    """Keeps why a broker refused a connection: kafka-python writes it to its log alone and ends with a timeout."""

    def __init__(self) -> None:
        super().__init__()
        self._last: tuple[float, str] = (0.0, "")

    def emit(self, record: logging.LogRecord) -> None:
        """Look for an error that comes again with the same settings among what is logged."""
        for error in record.args or ():
            if isinstance(error, kafka_errors.SaslAuthenticationFailedError) or (
                isinstance(error, kafka_errors.KafkaConnectionError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
            ):
                self._last = (time.monotonic(), str(error))

    def since(self, start: float) -> str:
        """The newest refusal since a time of the monotonic clock; empty where there was none."""
        at, reason = self._last
        return reason if at >= start else ""


_REFUSALS = _Refusals()


class Clients:
    """Makes configured clients of one broker. Raises InvalidRecipe for an option that no client knows."""

    def __init__(self, place: str, *, options: Mapping[str, str]) -> None:
        self.place = place
        logging.getLogger("kafka.net.manager").addHandler(_REFUSALS)  # once, however often it is said
        own = {PARTITION_COUNT_OPTION, REPLICATION_OPTION, PREFIX_OPTION}
        known = {**KafkaAdminClient.DEFAULT_CONFIG, **KafkaConsumer.DEFAULT_CONFIG, **KafkaProducer.DEFAULT_CONFIG}
        wrong = sorted(name for name in options if name not in own and (name not in known or name in _FIXED))
        if wrong:
            raise InvalidRecipe(
                f"MENDLOOP_BUS_OPTIONS has {', '.join(wrong)}: unknown to the Kafka client, or set by the bus;"
                f" known are {', '.join(sorted((known.keys() - _FIXED) | own))}"
            )
        self.prefix = options.get(PREFIX_OPTION, "")  # of topics, groups and transactions: one cluster, several loops
        self.partition_count = int(options.get(PARTITION_COUNT_OPTION, DEFAULT_PARTITION_COUNT))
        self.replication_factor = int(options.get(REPLICATION_OPTION, -1))  # -1: the broker's default
        self._options = {n: _typed(n, v, known[n]) for n, v in options.items() if n not in own}

    def wire(self, name: str) -> str:
        """A topic's or group's name as the broker knows it."""
        return self.prefix + name

    def delivery(self, record: Record) -> Delivery:
        """A consumed record as a delivery."""
        return delivery_of(record, topic=record.topic.removeprefix(self.prefix))

    def producer(self, *, transactional_id: str) -> KafkaProducer:
        """A transactional producer, not initialised yet."""
        return KafkaProducer(**self._config(KafkaProducer, _PRODUCER), transactional_id=transactional_id)

    def consumer(self, **settings: object) -> KafkaConsumer:
        """A consumer of committed events."""
        return KafkaConsumer(**{**self._config(KafkaConsumer, _CONSUMER), **settings})

    def admin(self) -> KafkaAdminClient:
        """An administration client; a context manager."""
        return KafkaAdminClient(**self._config(KafkaAdminClient, {}))

    def _config(self, client: type, defaults: Mapping[str, object]) -> dict[str, object]:
        fitting = {n: v for n, v in self._options.items() if n in client.DEFAULT_CONFIG}  # type: ignore[attr-defined]  # untyped package
        return {**_ALL, **defaults, **fitting, "bootstrap_servers": self.place.split(",")}


def _typed(name: str, value: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return float(value)
    except (KeyError, ValueError):
        raise InvalidRecipe(
            f"MENDLOOP_BUS_OPTIONS: {name} is {value!r}; it must be a {type(default).__name__}"
        ) from None
    return value


@contextmanager
def translated(place: str, doing: str) -> Iterator[None]:
    """Turns a client's error into Retryable (the broker may come back) or Permanent (it will refuse again)."""
    start = time.monotonic()
    try:
        yield
    except kafka_errors.MessageSizeTooLargeError as error:
        raise Permanent(f"{doing}: {error}; what is large travels as an artifact, not in an event") from error
    except kafka_errors.FencedInstanceIdError as error:
        raise Permanent(f"{doing}: another process joined under this member's name; give each its own") from error
    except (kafka_errors.AuthorizationError, kafka_errors.SaslAuthenticationFailedError) as error:
        raise Permanent(
            f"{doing}: Kafka at {place} refuses us: {error}; check MENDLOOP_BUS_OPTIONS and ACLs"
        ) from error
    except kafka_errors.KafkaError as error:
        refusal = _REFUSALS.since(start) if isinstance(error, kafka_errors.KafkaTimeoutError) else ""
        if refusal:
            raise Permanent(
                f"{doing}: Kafka at {place} refuses us: {refusal}; check user, password and certificate authority in"
                " MENDLOOP_BUS_OPTIONS"
            ) from error
        raise Retryable(
            f"{doing}: Kafka at {place} did not answer as it should ({type(error).__name__}: {error});"
            " check that the broker runs there and that MENDLOOP_BUS and MENDLOOP_BUS_OPTIONS are right"
        ) from error


def repeated(call: Callable[[], Result]) -> Result:
    """The call's result; the administration client gives up on errors that pass, such as a coordinator that starts."""
    deadline = time.monotonic() + ANSWER_DEADLINE_S
    while True:
        try:
            return call()
        except kafka_errors.RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(REPEAT_AFTER_S)


def headers_of(envelope: Envelope) -> list[tuple[str, bytes]]:
    """An envelope's headers as a record carries them."""
    return [(name, value.encode()) for name, value in envelope.headers.items()]


def delivery_of(record: Record, *, topic: str) -> Delivery:
    """A consumed record as a delivery. Foreign bytes that are no UTF-8 stay visible as escapes instead of raising."""
    headers = {name: _text(raw) for name, raw in record.headers or ()}
    envelope = Envelope(topic, _text(record.key), bytes(record.value or b""), headers)
    return Delivery(envelope, topic, record.partition, record.offset)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="backslashreplace")
