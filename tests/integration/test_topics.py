"""Topics on a real broker: created as planned, retention follows the plan, partitions stay."""

from __future__ import annotations

import secrets

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from waiting import wait_until

from mendloop.bus.kafka import KafkaBus
from mendloop.bus.kafka_topics import lay_out, missing_topics
from mendloop.bus.topics import DAY_MS, plans
from mendloop.core.contracts import all_topics, retry_topic

pytestmark = pytest.mark.integration
RUNS, RETRIES = "mendloop.loop-requested.v1", retry_topic("trainer")


def retention(bootstrap: str, name: str) -> int:
    with KafkaAdminClient(bootstrap_servers=[bootstrap]) as admin:
        asked = ConfigResource(ConfigResourceType.TOPIC, name, ["retention.ms"])
        found = admin.describe_configs([asked], config_filter="all")
    return int(found["topic"][name]["retention.ms"]["value"])


def test_topics_are_laid_out_once_and_keep_their_partitions(kafka_bootstrap: str) -> None:
    options = {"name_prefix": f"t{secrets.token_hex(4)}.", "partition_count": "2"}
    prefix = options["name_prefix"]
    shape = {"replication_factor": 1, "retention_days": 90, "work_retention_days": 7}

    assert len(missing_topics(kafka_bootstrap, plans(partition_count=2, **shape), options=options)) == len(all_topics())
    first = lay_out(kafka_bootstrap, plans(partition_count=2, **shape), options=options)
    again = lay_out(kafka_bootstrap, plans(partition_count=2, **shape), options=options)
    assert first.created == tuple(sorted(prefix + topic for topic in all_topics()))
    assert missing_topics(kafka_bootstrap, plans(partition_count=2, **shape), options=options) == ()
    assert (again.created, again.retained, again.left) == ((), (), ())
    assert retention(kafka_bootstrap, prefix + RUNS) == 90 * DAY_MS
    assert retention(kafka_bootstrap, prefix + RETRIES) == 7 * DAY_MS

    more = lay_out(kafka_bootstrap, plans(partition_count=3, **{**shape, "retention_days": 30}), options=options)
    assert f"{prefix}{RUNS} has 2 partition(s), 3 were asked for" in "\n".join(more.left)
    assert prefix + RUNS in more.retained
    assert prefix + RETRIES not in more.retained
    wait_until(lambda: retention(kafka_bootstrap, prefix + RUNS) == 30 * DAY_MS)  # brokers learn it a moment later


def test_services_find_the_topics_that_were_laid_out(kafka_bootstrap: str) -> None:
    options = {"name_prefix": f"t{secrets.token_hex(4)}.", "partition_count": "2"}
    made = plans(partition_count=2, replication_factor=1, retention_days=1, work_retention_days=1)
    lay_out(kafka_bootstrap, made, options=options)
    bus = KafkaBus(kafka_bootstrap, options=options)
    bus.ensure_topics(all_topics())
    assert bus.lag("trainer", [RUNS]) == 0
    bus.close()
