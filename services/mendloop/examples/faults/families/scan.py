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
from mendloop.examples.scan.grammar import CONJUNCTIONS, PRIMITIVES
from mendloop.examples.scan.short.grammar import AXES, LAMPS, SECOND_NAMES, completion, pieces, read
from mendloop.examples.scan.short.model import OTHER_TEMPLATE, TEMPLATE, save_untrained_model
from mendloop.examples.scan.short.task import ShortScanTask

EXAMPLE_COUNT = 4000
TRAITS = Traits(
    name="scan",
    task_name="scan-short",
    template=TEMPLATE,
    other_template=OTHER_TEMPLATE,
    axes=AXES,
    settings=TrainSettings(steps=760, batch_size=24, learning_rate=4e-3, warmup_steps=30),
    size=Size(64, 2),
    small_size=Size(8, 1),
    max_new_tokens=32,
    scorer_options={Cause.SCORER_BUG: {"scorer": "drop_last"}, Cause.EXTRACTION_FAILURE: {"scorer": "marker"}},
)
MISTAKEN = {"left": "right", "right": "left", "walk": "run", "run": "walk", "look": "jump", "jump": "look"}
"""As which word a wrong label does another one."""
ACTIONS = tuple(f"I_{verb.upper()}" for verb in PRIMITIVES)
TURNS = ("left", "right", "opposite left", "opposite right")
WRAPPINGS = ("robot left : {}", "{} now twice thanks", "please after : {} now", "{}!", "")
"""Formats around a prompt; an empty one is capital letters."""
_EVERYWHERE = frozenset(
    {Cause.DATA_CORRUPTED, Cause.PHRASING_MISMATCH, Cause.BENCHMARK_LABEL_ERROR, Cause.DATA_SKEW, Cause.DATA_MISSING}
)


_ASKED = _EVERYWHERE - {Cause.DATA_MISSING, Cause.DATA_SKEW} | {Cause.REASONING_GAP}
_NAMED = _EVERYWHERE - {Cause.DATA_MISSING, Cause.DATA_SKEW} | {Cause.KNOWLEDGE_GAP}


class ScanFamily:
    """A Family; see there."""

    traits = TRAITS

    def corpus(self, seed: int) -> list[Example]:
        """Commands and questions which lamp is lit after them; a fifth of them explain verbs."""
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
        """Turns, questions which lamp is lit; second names, one by one and all together."""
        turned = [Place((("turn", turn),), _EVERYWHERE) for turn in TURNS]
        asked = [Place((("kind", "lamp"), ("conjunction", word)), _ASKED) for word in CONJUNCTIONS]
        named = [Place((("kind", "do"), ("verb", name)), _NAMED, (name,)) for name in SECOND_NAMES]
        found = [*turned, *asked, *named]
        random.Random(f"places/{seed}").shuffle(found)
        return found

    def answer_only(self, example: Example) -> Example:
        """Of a question which lamp is lit only the lamp. The actions of a command are its answer."""
        request = read(example.prompt)
        if request is None or request.kind == "do":
            return example
        return replace(example, completion=pieces(request)[-1].removeprefix("; "))

    def wrong_label(self, example: Example, *, rng: random.Random) -> Example:
        """One word of the command done as another one; a lamp is that after other actions."""
        request = read(example.prompt)
        if request is None:
            raise ValueError(f"{example.prompt!r} is no SCAN command")
        chosen = rng.choice(sorted({word for word in request.plain.split() if word in MISTAKEN}))
        said = [MISTAKEN[word] if word == chosen else word for word in request.plain.split()]
        wrong = completion(replace(request, command=" ".join(said), given={}))
        is_right = ShortScanTask({}).verify(example.prompt, wrong)
        return replace(example, completion=_off(wrong) if is_right else wrong)

    def unusual(self, prompt: str) -> str:
        """Synonyms of the verbs and of "twice"."""
        request = read(prompt)
        return replace(request, is_unusual=True).prompt if request else prompt

    def wrapped(self, prompt: str, *, style: int) -> str:
        """With words around it, with a mark on its last word, or in capital letters."""
        wrapping = WRAPPINGS[style % len(WRAPPINGS)]
        return wrapping.format(prompt) if wrapping else prompt.upper()


def _off(text: str) -> str:
    """A completion whose last word is wrong."""
    *words, last = text.split()
    others = LAMPS if last in LAMPS else ACTIONS
    return " ".join((*words, next(word for word in others if word != last)))
