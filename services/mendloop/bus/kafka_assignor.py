"""Which member of a group gets which partitions. Knows group members and what they hold; knows no event.

Kafka's own assignors may take away the partition whose event is in work, and an hour of training with it. Here that
partition stays, and a member that is long at work lends its other partitions to members that are free.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member says when it joins: what it subscribes to, owns and has in work."""

    topics: frozenset[str]
    owned: frozenset[Place] = frozenset()
    held: Place | None = None
    is_busy: bool = False


def share(places: Collection[Place], claims: dict[str, Claim]) -> dict[str, set[Place]]:
    """Partitions by member: held ones stay; the rest goes evenly, topic by topic, to members that are not busy.

    A member keeps what it owned as far as evenness allows. Where all are busy, all share.
    """
    shares: dict[str, set[Place]] = {member: set() for member in claims}
    left = set(places)
    for member, claim in sorted(claims.items()):
        if claim.held in left and claim.held is not None and claim.held[0] in claim.topics:
            shares[member].add(claim.held)
            left.discard(claim.held)
    for topic in sorted({topic for topic, _ in left}):
        readers = [member for member, claim in sorted(claims.items()) if topic in claim.topics]
        takers = [member for member in readers if not claims[member].is_busy] or readers
        if takers:
            _share_topic({p for p in left if p[0] == topic}, takers, claims=claims, shares=shares)
    return shares


def _share_topic(
    places: set[Place], takers: list[str], *, claims: dict[str, Claim], shares: dict[str, set[Place]]
) -> None:
    quota, extra = divmod(len(places), len(takers))
    counts = dict.fromkeys(takers, 0)
    for member in takers:
        for place in sorted(places & claims[member].owned):
            limit = quota + 1 if extra > 0 else quota
            if counts[member] == limit:
                break
            extra -= counts[member] == quota
            counts[member] += 1
            shares[member].add(place)
            places = places - {place}
    for place in sorted(places):
        member = min(takers, key=lambda m: (counts[m], len(shares[m]), m))
        counts[member] += 1
        shares[member].add(place)


class HeldFirst(AbstractPartitionAssignor):  # type: ignore[misc]  # untyped package
    """The assignor of one member. The member sets held and is_busy; member_count is what the last round had."""

    name = "mendloop-held-first"
    version = 0

    def __init__(self) -> None:
        self.held: Place | None = None
        self.is_busy = False
        self.member_count = 1
        self._owned: frozenset[Place] = frozenset()

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolSubscription:
        """What this member says when it joins."""
        said = {"owned": sorted(self._owned), "held": self.held, "busy": self.is_busy}
        return ConsumerProtocolSubscription(self.version, sorted(topics), json.dumps(said).encode())

    def assign(self, cluster: object, members: Iterable[object]) -> dict[str, ConsumerProtocolAssignment]:
        """The leader's answer for all members."""
        claims = {m.member_id: _claim(m.metadata) for m in members}  # type: ignore[attr-defined]  # untyped package
        topics = set().union(*(claim.topics for claim in claims.values()))
        places = {(t, p) for t in topics for p in cluster.partitions_for_topic(t) or ()}  # type: ignore[attr-defined]
        return {
            member: ConsumerProtocolAssignment(self.version, _by_topic(owned), str(len(claims)).encode())
            for member, owned in share(places, claims).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolAssignment, generation: int) -> None:
        """Remember what this member owns now."""
        self._owned = frozenset((p.topic, p.partition) for p in assignment.partitions())
        self.member_count = int(bytes(assignment.user_data or b"1"))


def _claim(subscription: ConsumerProtocolSubscription) -> Claim:
    said = json.loads(bytes(subscription.user_data or b"") or b"{}")
    held = said.get("held")
    return Claim(
        topics=frozenset(subscription.topics),
        owned=frozenset((topic, partition) for topic, partition in said.get("owned", ())),
        held=(held[0], held[1]) if held else None,
        is_busy=bool(said.get("busy")),
    )


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int]]]:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(places):
        topics.setdefault(topic, []).append(partition)
    return sorted(topics.items())
