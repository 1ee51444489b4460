"""Owns the facts: who is whose friend, who likes what. Everything follows from one seed; knows no wording."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

TOPICS = ("birds", "rivers", "stones", "trees")
PER_TOPIC = 12
LINKS = ("friend", "rival")
"""Relations from a being to another of the same topic."""
VALUES = {
    "colour": ("red", "blue", "green", "black", "white", "grey"),
    "home": ("hill", "lake", "town", "cave", "coast", "field"),
    "food": ("bread", "fish", "rice", "corn", "soup", "fruit"),
}
"""Relations from a being to a plain value."""
RELATIONS = (*LINKS, *VALUES)
_STEMS = ("ba", "do", "fe", "gi", "ku", "la", "mo", "ne", "pi", "ru", "sa", "to")
_ENDS = {"birds": "rik", "rivers": "lun", "stones": "dax", "trees": "vem"}


@dataclass(frozen=True, slots=True)
class World:
    """Every fact, as (relation, being) -> being or value."""

    facts: dict[tuple[str, str], str]
    topic_of: dict[str, str]

    @property
    def beings(self) -> tuple[str, ...]:
        """All names, topic by topic."""
        return tuple(self.topic_of)

    def value(self, relation: str, being: str) -> str:
        """What the fact says. Raises KeyError where there is no such fact."""
        return self.facts[relation, being]


@cache
def world(seed: int = 0) -> World:
    """The world of a seed: links are cycles through a topic, so nobody is their own friend."""
    rng = random.Random(f"facts/{seed}")
    facts: dict[tuple[str, str], str] = {}
    topic_of: dict[str, str] = {}
    for topic in TOPICS:
        names = [stem + _ENDS[topic] for stem in _STEMS[:PER_TOPIC]]
        topic_of |= dict.fromkeys(names, topic)
        for link in LINKS:
            ring = rng.sample(names, len(names))
            facts |= {(link, ring[at - 1]): ring[at] for at in range(len(ring))}
        for relation, values in VALUES.items():
            facts |= {(relation, name): rng.choice(values) for name in names}
    return World(facts, topic_of)
