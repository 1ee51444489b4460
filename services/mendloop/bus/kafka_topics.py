"""Topics on Kafka as a plan wants them: what is missing is created, retention is set, partitions are never changed.

Knows administration clients; knows no event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from mendloop.bus.kafka_client import Clients, translated
from mendloop.bus.topics import TopicPlan
from mendloop.core.errors import Permanent

TOPIC_DEADLINE_MS = 30_000
RETENTION = "retention.ms"


@dataclass(frozen=True, slots=True)
class Layout:
    """What was done: names as the broker knows them, and differences that were left, as sentences."""

    created: tuple[str, ...]
    retained: tuple[str, ...]
    left: tuple[str, ...]


def lay_out(place: str, plans: Sequence[TopicPlan], *, options: Mapping[str, str]) -> Layout:
    """Make the topics at HOST:PORT as planned. Raises Retryable where Kafka is away, Permanent where it refuses."""
    clients = Clients(place, options=options)
    wanted = {clients.wire(plan.name): plan for plan in plans}
    with translated(place, "laying out topics"), clients.admin() as admin:
        existing = set(admin.list_topics()) & set(wanted)
        missing = {name: plan for name, plan in wanted.items() if name not in existing}
        _create(admin, missing)
        retained = _retain(admin, {name: wanted[name] for name in existing})
        return Layout(tuple(sorted(missing)), retained, _differences(admin, {n: wanted[n] for n in existing}))


def missing_topics(place: str, plans: Sequence[TopicPlan], *, options: Mapping[str, str]) -> tuple[str, ...]:
    """Names, as the broker would know them, of planned topics that are not there. Raises as lay_out does."""
    clients = Clients(place, options=options)
    with translated(place, "listing topics"), clients.admin() as admin:
        existing = set(admin.list_topics())
    return tuple(sorted({clients.wire(plan.name) for plan in plans} - existing))


def _create(admin: KafkaAdminClient, missing: Mapping[str, TopicPlan]) -> None:
    if not missing:
        return
    shapes = {
        name: {
            "num_partitions": plan.partition_count,
            "replication_factor": plan.replication_factor,
            "configs": {RETENTION: str(plan.retention_ms)},
        }
        for name, plan in missing.items()
    }
    answer = admin.create_topics(shapes, raise_errors=False)
    for topic in answer["topics"]:
        error = kafka_errors.for_code(topic["error_code"])
        if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):  # another was first
            raise error(f"{topic['name']}: {topic['error_message']}")
    admin.wait_for_topics(list(missing), timeout_ms=TOPIC_DEADLINE_MS)


def _retain(admin: KafkaAdminClient, existing: Mapping[str, TopicPlan]) -> tuple[str, ...]:
    """Set how long events stay, where it differs; returns the topics that it was set on."""
    if not existing:
        return ()
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, [RETENTION]) for name in existing]
    found = admin.describe_configs(asked, config_filter="all").get("topic", {})
    differing = {
        name: str(plan.retention_ms)
        for name, plan in existing.items()
        if str(found.get(name, {}).get(RETENTION, {}).get("value")) != str(plan.retention_ms)
    }
    if differing:
        changes = [ConfigResource(ConfigResourceType.TOPIC, n, {RETENTION: value}) for n, value in differing.items()]
        answers = admin.alter_configs(changes).get("topic", {})  # the client raises nothing for a refusal
        refused = sorted(f"{name}: {answer}" for name, answer in answers.items() if answer != "OK")
        if refused:
            raise Permanent(f"Kafka does not set {RETENTION}: {'; '.join(refused)}; check the user's ACLs")
    return tuple(sorted(differing))


def _differences(admin: KafkaAdminClient, existing: Mapping[str, TopicPlan]) -> tuple[str, ...]:
    """More partitions would send the next event of a run at work elsewhere than its last one, so none are added."""
    if not existing:
        return ()
    counts = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(existing))}
    return tuple(
        f"{name} has {counts[name]} partition(s), {plan.partition_count} were asked for; more would break the order of"
        " runs at work: add them by hand while no run is at work"
        for name, plan in sorted(existing.items())
        if counts.get(name, plan.partition_count) != plan.partition_count
    )
