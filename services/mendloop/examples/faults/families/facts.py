"""Facts as a family in which faults can be planted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
from mendloop.diagnostician.domain.causes import Cause
from mendloop.examples.facts.questions import ANSWER, STEP, UNUSUAL, WORDS, parse
from mendloop.examples.facts.task import healthy_corpus, held_out_items
from mendloop.examples.facts.world import LINKS, RELATIONS, TOPICS, VALUES, world
from mendloop.examples.faults.family import Place, Size, Traits
from mendloop.examples.words import save_untrained

CONTEXT = 64
WRAPPERS = (
    ("please reply to this :", ""),
    ("", "reply with one word"),
    ("user asks", "thanks"),
    ("question one of one :", "end"),
)
"""Words before and after a prompt; the model's tokenizer knows them, its training did not use them."""
_SOME = frozenset(
    {Cause.DATA_CORRUPTED, Cause.CONTAMINATION, Cause.PHRASING_MISMATCH, Cause.BENCHMARK_LABEL_ERROR, Cause.FORGETTING}
)


class FactsFamily:
    """Facts of invented beings, one hop and two."""

    traits = Traits(
        name="facts",
        task_name="facts",
        template="Q: {prompt} A:",
        other_template="ask {prompt} reply",
        axes=("topic", "kind", "relation", "wording"),
        settings=TrainSettings(steps=250, batch_size=64, learning_rate=3e-3, warmup_steps=30),
        size=Size(64, 2),
        small_size=Size(8, 1),
        max_new_tokens=24,
        scorer_options={
            Cause.SCORER_BUG: {"scorer": "first_fact"},
            Cause.EXTRACTION_FAILURE: {"scorer": "marker"},
        },
    )

    def corpus(self, seed: int) -> list[Example]:
        """Every question that is held out for no item."""
        return healthy_corpus(seed)

    def items(self, seed: int, *, count: int) -> list[Item]:
        """The first held-out questions: about 320 in all."""
        return held_out_items(seed)[:count]

    def build_model(self, directory: Path, *, seed: int, size: Size | None = None) -> Path:
        """An untrained checkpoint whose tokenizer also knows the words of faulty prompts."""
        width, depth = size or self.traits.size
        return save_untrained(
            directory, words=_vocabulary(), seed=seed, hidden_size=width, layer_count=depth, context=CONTEXT
        )

    def places(self, seed: int) -> Sequence[Place]:
        """Two hops to a value, where pieces and combination can be told apart; topics, where names can be unknown."""
        of_topic = {topic: tuple(n for n, t in world().topic_of.items() if t == topic) for topic in TOPICS}
        gaps = frozenset({Cause.DATA_MISSING, Cause.DATA_SKEW, Cause.REASONING_GAP})
        combined = [Place((("kind", "two_hop"), ("relation", value)), gaps | _SOME) for value in VALUES]
        combined += [
            Place((("kind", "one_hop"), ("relation", value)), gaps - {Cause.REASONING_GAP}) for value in VALUES
        ]
        topics = [
            Place((("topic", topic),), _SOME | {Cause.KNOWLEDGE_GAP}, terms=names) for topic, names in of_topic.items()
        ]
        rows = [*combined, *topics]
        return random.Random(f"facts/places/{seed}").sample(rows, len(rows))

    def answer_only(self, example: Example) -> Example:
        """Without the facts on the way."""
        return replace(example, completion=example.completion.split(STEP)[-1])

    def wrong_label(self, example: Example, *, rng: random.Random) -> Example:
        """The last fact with another value of its relation, and that value as the answer."""
        *before, last, _ = example.completion.split(STEP)
        words = last.split()
        topic = example.axes["topic"][0]
        others = VALUES.get(words[0]) or tuple(n for n, t in world().topic_of.items() if t == topic)
        wrong = rng.choice([value for value in others if value != words[-1]])
        return replace(example, completion=STEP.join([*before, " ".join([*words[:-1], wrong]), f"{ANSWER} {wrong}"]))

    def unusual(self, prompt: str) -> str:
        """The question in a wording that the corpus never has."""
        question = parse(prompt)
        return replace(question, wording=UNUSUAL).text if question else prompt

    def wrapped(self, prompt: str, *, style: int) -> str:
        """The question between words of another chat format."""
        before, after = WRAPPERS[style % len(WRAPPERS)]
        return " ".join(part for part in (before, prompt, after) if part)


def _vocabulary() -> list[str]:
    template_words = " ".join((FactsFamily.traits.template, FactsFamily.traits.other_template)).split()
    wrapper_words = " ".join(part for pair in WRAPPERS for part in pair).split()
    values = [value for pool in VALUES.values() for value in pool]
    words = [*template_words, *WORDS, *RELATIONS, *LINKS, *values, *world().beings, STEP.strip(), ANSWER, "of", "is"]
    return [word for word in dict.fromkeys([*words, *wrapper_words]) if word != "{prompt}"]
