"""How a deployment's topics are laid out: partitions, copies, and how long an event stays. Knows no broker.

Facts (results, verdicts, decisions, dead letters) stay long, for the gateway's list of runs is a fold of them; work
(shards, retries) is of no use once done. Keys keep a run in order, so a topic that exists keeps its partitions.
"""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.core.contracts import all_topics, work_topics

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be. replication_factor -1 takes the broker's default, retention_ms -1 is for ever."""

    name: str
    partition_count: int
    replication_factor: int
    retention_ms: int

    def __post_init__(self) -> None:
        if self.partition_count < 1:
            raise ValueError(f"{self.name}: partition_count is {self.partition_count}; it must be at least 1")
        if self.replication_factor == 0 or self.replication_factor < -1:
            raise ValueError(f"{self.name}: replication_factor is {self.replication_factor}; 1 or more, or -1")


def plans(
    *, partition_count: int, replication_factor: int, retention_days: float, work_retention_days: float
) -> tuple[TopicPlan, ...]:
    """Every topic of a deployment. Days below 0 are for ever."""
    work = work_topics()
    return tuple(
        TopicPlan(
            name,
            partition_count=partition_count,
            replication_factor=replication_factor,
            retention_ms=_milliseconds(work_retention_days if name in work else retention_days),
        )
        for name in all_topics()
    )


def _milliseconds(days: float) -> int:
    return -1 if days < 0 else round(days * DAY_MS)
