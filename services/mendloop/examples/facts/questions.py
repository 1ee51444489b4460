"""Owns the questions: two kinds, two usual wordings and an unusual one each, and their worked answers.

Knows the world; knows neither items nor scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mendloop.core.records import Axes
from mendloop.examples.facts.world import LINKS, RELATIONS, VALUES, World

Kind = Literal["one_hop", "two_hop"]
WORDINGS = ("ask", "tell")
UNUSUAL = "quiz"
STEP = " ; "
ANSWER = "answer"

_PATTERNS: dict[tuple[Kind, str], str] = {
    ("one_hop", "ask"): "what is the {relation} of {name}",
    ("one_hop", "tell"): "{name} has which {relation}",
    ("one_hop", "quiz"): "say {name} and its {relation}",
    ("two_hop", "ask"): "what is the {relation} of the {link} of {name}",
    ("two_hop", "tell"): "{name} has a {link} with which {relation}",
    ("two_hop", "quiz"): "say {name} then its {link} then that one's {relation}",
}
_REGEX = {
    key: re.compile(
        pattern.replace("{relation}", f"(?P<relation>{'|'.join(RELATIONS)})")
        .replace("{link}", f"(?P<link>{'|'.join(LINKS)})")
        .replace("{name}", r"(?P<name>\w+)")
    )
    for key, pattern in _PATTERNS.items()
}
WORDS = tuple(
    dict.fromkeys(word for pattern in _PATTERNS.values() for word in pattern.split() if not word.startswith("{"))
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question. link is empty but for two hops."""

    kind: Kind
    wording: str
    relation: str
    name: str
    link: str = ""

    @property
    def text(self) -> str:
        """The prompt."""
        pattern = _PATTERNS[self.kind, self.wording]
        return pattern.format(relation=self.relation, name=self.name, link=self.link)


def parse(prompt: str) -> Question | None:
    """The question that a prompt asks, in any of the wordings; None where it is none."""
    for (kind, wording), regex in _REGEX.items():
        found = regex.fullmatch(" ".join(prompt.split()))
        if found:
            parts = found.groupdict()
            return Question(kind, wording, parts["relation"], parts["name"], parts.get("link") or "")
    return None


def all_questions(world: World) -> Iterator[Question]:
    """Every question of the usual wordings."""
    for name in world.beings:
        for wording in WORDINGS:
            yield from (Question("one_hop", wording, relation, name) for relation in RELATIONS)
            yield from (Question("two_hop", wording, value, name, link) for link in LINKS for value in VALUES)


def facts_needed(question: Question, world: World) -> tuple[tuple[str, str], ...]:
    """The facts as (relation, being), in the order in which they are used. Raises KeyError for an unknown being."""
    if question.kind == "one_hop":
        return ((question.relation, question.name),)
    middle = world.value(question.link, question.name)
    return ((question.link, question.name), (question.relation, middle))


def answer(question: Question, world: World) -> str:
    """The right answer: one word. Raises KeyError for an unknown being."""
    return world.value(*facts_needed(question, world)[-1])


def worked(question: Question, world: World) -> str:
    """The right completion: each fact, then the answer."""
    facts = facts_needed(question, world)
    return STEP.join([*(stated(world, *fact) for fact in facts), f"{ANSWER} {answer(question, world)}"])


def stated(world: World, relation: str, name: str) -> str:
    """One fact as a sentence."""
    return f"{relation} of {name} is {world.value(relation, name)}"


def axes_of(question: Question, world: World) -> Axes:
    """Axis values: topic, kind, relation asked for, wording."""
    return {
        "topic": (world.topic_of[question.name],) if question.name in world.topic_of else (),
        "kind": (question.kind,),
        "relation": (question.relation,),
        "wording": (question.wording,),
    }
