"""Short SCAN as a family for planted faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
from mendloop.diagnostician.domain.causes import Cause
from mendloop.examples.faults.family import Place, Size, Traits
from mendloop.examples.scan.grammar import CONJUNCTIONS, DIRECTIONS, MANNERS, PRIMITIVES
from mendloop.examples.scan.short.grammar import AXES, SECOND_NAMES, Request, completion, pieces, read
from mendloop.examples.scan.short.model import OTHER_TEMPLATE, TEMPLATE, save_untrained_model
from mendloop.examples.scan.short.task import ShortScanTask

EXAMPLE_COUNT = 4000
TRAITS = Traits(
    name="scan",
    task_name="scan-short",
    template=TEMPLATE,
    other_template=OTHER_TEMPLATE,
    axes=AXES,
    settings=TrainSettings(steps=680, batch_size=24, learning_rate=4e-3, warmup_steps=30),
    size=Size(64, 2),
    small_size=Size(8, 1),
    max_new_tokens=32,
    short_new_tokens=10,
    scorer_options={Cause.SCORER_BUG: {"scorer": "drop_last"}, Cause.EXTRACTION_FAILURE: {"scorer": "marker"}},
)
MISTAKEN = {"left": "right", "right": "left", "walk": "run", "run": "walk", "look": "jump", "jump": "look"}
"""As which word a wrong label does another one."""
WRAPPINGS = ("robot left : {}", "{} now twice thanks", "please after : {} now", "{}!", "")
"""Formats around a prompt; an empty one is capital letters."""
_EVERYWHERE = frozenset(
    {Cause.DATA_CORRUPTED, Cause.PHRASING_MISMATCH, Cause.BENCHMARK_LABEL_ERROR, Cause.DATA_SKEW, Cause.DATA_MISSING}
)


class ScanFamily:
    """A Family; see there."""

    traits = TRAITS

    def corpus(self, seed: int) -> list[Example]:
        """Commands and questions how many actions one has; a fifth of them explain a verb."""
        return ShortScanTask({}).corpus({"count": EXAMPLE_COUNT, "seed": seed})

    def items(self, seed: int, *, count: int) -> list[Item]:
        """Items of commands that no corpus has."""
        drawn = ShortScanTask({}).items(counts={"search": count}, seed=seed)
        return [replace(item, split="confirm") if at % 2 else item for at, item in enumerate(drawn)]

    def build_model(self, directory: Path, *, seed: int, size: Size | None = None) -> Path:
        """An untrained Llama."""
        width, depth = size or TRAITS.size
        return save_untrained_model(directory, seed=seed, hidden_size=width, layer_count=depth)

    def places(self, seed: int) -> Sequence[Place]:
        """A verb with a direction, a manner or a conjunction; questions how many; second names, one by one and all."""
        verbs = [*PRIMITIVES, "turn"]
        pairs = [("manner", value) for value in MANNERS] + [("direction", value) for value in DIRECTIONS]
        composed = [Place((("verb", verb), pair), _EVERYWHERE) for verb in verbs for pair in pairs]
        counted = [
            Place((("kind", "count"), pair), _EVERYWHERE - {Cause.DATA_MISSING} | {Cause.REASONING_GAP})
            for pair in [("conjunction", value) for value in CONJUNCTIONS] + [("repetition", "twice")]
        ]
        named = [Place((("verb", name),), _EVERYWHERE | {Cause.KNOWLEDGE_GAP}, (name,)) for name in SECOND_NAMES]
        found = [*composed, *counted, *named]
        random.Random(f"places/{seed}").shuffle(found)
        return found

    def answer_only(self, example: Example) -> Example:
        """Of a question how many: only the number. The actions of a command are its answer."""
        request = read(example.prompt)
        if request is None or request.kind != "count":
            return example
        return replace(example, completion=pieces(request)[-1].removeprefix("; "))

    def wrong_label(self, example: Example, *, rng: random.Random) -> Example:
        """One word of the command done as another one; a number is one more or one less."""
        request = read(example.prompt)
        if request is None:
            raise ValueError(f"{example.prompt!r} is no SCAN command")
        if request.kind == "count":
            return replace(example, completion=_miscounted(request))
        words = sorted({word for word in request.plain.split() if word in MISTAKEN})
        word = rng.choice(words)
        mistaken = " ".join(MISTAKEN[word] if other == word else other for other in request.plain.split())
        return replace(example, completion=completion(Request(mistaken)))

    def unusual(self, prompt: str) -> str:
        """Synonyms of the verbs and of "twice"."""
        request = read(prompt)
        return replace(request, is_unusual=True).prompt if request else prompt

    def wrapped(self, prompt: str, *, style: int) -> str:
        """With words around it, with a mark on its last word, or in capital letters."""
        wrapping = WRAPPINGS[style % len(WRAPPINGS)]
        return wrapping.format(prompt) if wrapping else prompt.upper()


def _miscounted(request: Request) -> str:
    """The first action is forgotten; of one action, it is counted twice."""
    words = [word for word in completion(request).split() if word.startswith("I_")]
    said = words[1:] if len(words) > 1 else [*words, *words]
    numbered = " ".join(f"{action} {at}" for at, action in enumerate(said, start=1))
    return f"{numbered} ; answer {len(said)}"
