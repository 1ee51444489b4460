"""Which partitions go to which member."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mendloop.bus.kafka_assignor import Claim, Place, share

PLACES = [(topic, number) for topic in ("a", "b") for number in range(4)]
TOPICS = frozenset({"a", "b"})


def test_partitions_are_spread_evenly_topic_by_topic() -> None:
    shares = share(PLACES, {"m1": Claim(TOPICS), "m2": Claim(TOPICS)})
    assert {len([p for p in owned if p[0] == topic]) for owned in shares.values() for topic in TOPICS} == {2}


def test_partition_in_work_stays_when_members_join() -> None:
    alone = Claim(TOPICS, owned=frozenset(PLACES), held=("a", 3))
    shares = share(PLACES, {"new1": Claim(TOPICS), "new2": Claim(TOPICS), "old": alone})
    assert ("a", 3) in shares["old"]


def test_busy_member_lends_all_but_the_partition_in_work() -> None:
    busy = Claim(TOPICS, owned=frozenset(PLACES), held=("a", 0), is_busy=True)
    shares = share(PLACES, {"busy": busy, "free": Claim(TOPICS)})
    assert shares["busy"] == {("a", 0)}
    assert shares["free"] == set(PLACES) - {("a", 0)}


def test_where_all_are_busy_all_share() -> None:
    claims = {f"m{i}": Claim(TOPICS, held=("a", i), is_busy=True) for i in range(2)}
    assert {len(owned) for owned in share(PLACES, claims).values()} == {4}


def test_member_gets_only_what_it_subscribes_to() -> None:
    shares = share(PLACES, {"m1": Claim(frozenset({"a"})), "m2": Claim(TOPICS)})
    assert {topic for topic, _ in shares["m1"]} == {"a"}
    assert {p for p in shares["m2"] if p[0] == "b"} == {p for p in PLACES if p[0] == "b"}


def test_nothing_moves_where_nothing_changed() -> None:
    before = share(PLACES, {"m1": Claim(TOPICS), "m2": Claim(TOPICS), "m3": Claim(TOPICS)})
    again = share(PLACES, {name: Claim(TOPICS, owned=frozenset(owned)) for name, owned in before.items()})
    assert again == before


_places = st.sampled_from(PLACES)
_claims = st.builds(
    Claim,
    topics=st.just(TOPICS),
    owned=st.frozensets(_places),
    held=st.none() | _places,
    is_busy=st.booleans(),
)


@given(st.dictionaries(st.sampled_from("xyzuv"), _claims, min_size=1))
def test_each_partition_has_exactly_one_owner(claims: dict[str, Claim]) -> None:
    owned: list[Place] = [place for places in share(PLACES, claims).values() for place in places]
    assert sorted(owned) == sorted(PLACES)
