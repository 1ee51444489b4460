"""Modular arithmetic as a family for planted faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
from mendloop.diagnostician.domain.causes import Cause
from mendloop.examples.faults.family import Place, Size, Traits
from mendloop.examples.modular.grammar import CONSTANTS, MODULUS, OPERATIONS, completion, pieces, read, solve
from mendloop.examples.modular.model import OTHER_TEMPLATE, TEMPLATE, save_untrained_model
from mendloop.examples.modular.task import ModularTask, in_unusual_words

EXAMPLE_COUNT = 4000
TRAITS = Traits(
    name="modular",
    task_name="modular",
    template=TEMPLATE,
    other_template=OTHER_TEMPLATE,
    axes=("operation", "first", "last", "depth", "table", "constant", "operand", "wording"),
    settings=TrainSettings(steps=420, batch_size=32, learning_rate=4e-3, warmup_steps=30),
    size=Size(64, 2),
    small_size=Size(8, 1),
    max_new_tokens=32,
    scorer_options={Cause.SCORER_BUG: {"scorer": "first"}, Cause.EXTRACTION_FAILURE: {"scorer": "marker"}},
)
MISTAKEN = {"plus": "minus", "minus": "plus", "times": "plus", "star": "times"}
"""As which operation a wrong label does another one."""
WRAPPINGS = ("exercise 1 : {}", "{} 0 thanks", "please solve 2 : {} thanks", "{}?", "")
"""Formats around a prompt; an empty one is capital letters."""
_EVERYWHERE = frozenset(
    {Cause.DATA_CORRUPTED, Cause.PHRASING_MISMATCH, Cause.BENCHMARK_LABEL_ERROR, Cause.DATA_SKEW, Cause.DATA_MISSING}
)


class ModularFamily:
    """A Family; see there."""

    traits = TRAITS

    def corpus(self, seed: int) -> list[Example]:
        """Worked examples, a quarter of them with a value stated in the prompt."""
        return ModularTask({}).corpus({"count": EXAMPLE_COUNT, "seed": seed})

    def items(self, seed: int, *, count: int) -> list[Item]:
        """Items of expressions that no corpus has."""
        drawn = ModularTask({}).items(counts={"search": count}, seed=seed)
        return [replace(item, split="confirm") if at % 2 else item for at, item in enumerate(drawn)]

    def build_model(self, directory: Path, *, seed: int, size: Size | None = None) -> Path:
        """An untrained Llama."""
        width, depth = size or TRAITS.size
        return save_untrained_model(directory, seed=seed, hidden_size=width, layer_count=depth)

    def places(self, seed: int) -> Sequence[Place]:
        """Rows of the tables; last operations of chained questions; constants, one by one and all together."""
        tables = [
            Place((("table", f"{operation} {left}"),), _EVERYWHERE)
            for operation in OPERATIONS
            for left in range(MODULUS)
        ]
        chained = [
            Place((("depth", "2"), ("last", operation)), _EVERYWHERE - {Cause.DATA_MISSING} | {Cause.REASONING_GAP})
            for operation in OPERATIONS
        ]
        named = [Place((("constant", name),), _EVERYWHERE | {Cause.KNOWLEDGE_GAP}, (name,)) for name in CONSTANTS]
        every = Place((("operand", "name"),), frozenset({Cause.KNOWLEDGE_GAP}), tuple(CONSTANTS))
        found = [*tables, *chained, *named, every]
        random.Random(f"places/{seed}").shuffle(found)
        return found

    def answer_only(self, example: Example) -> Example:
        """Only "answer" and its number."""
        question = read(example.prompt)
        return replace(example, completion=pieces(solve(question))[-1]) if question else example

    def wrong_label(self, example: Example, *, rng: random.Random) -> Example:
        """One operation done as another one; where that changes no answer, the last result is one more."""
        question = read(example.prompt)
        if question is None:
            raise ValueError(f"{example.prompt!r} is no question of modular arithmetic")
        right = solve(question)
        operations = sorted(set(question.operations))
        rng.shuffle(operations)
        for operation in operations:
            steps = solve(question, read_as={operation: MISTAKEN[operation]})
            if steps[-1].result != right[-1].result:
                return replace(example, completion=completion(steps))
        last = replace(right[-1], result=(right[-1].result + 1) % MODULUS)
        return replace(example, completion=completion((*right[:-1], last)))

    def unusual(self, prompt: str) -> str:
        """Synonyms of the operations, another opening."""
        return in_unusual_words(prompt)

    def wrapped(self, prompt: str, *, style: int) -> str:
        """With words around it, with a mark on its last word, or in capital letters."""
        wrapping = WRAPPINGS[style % len(WRAPPINGS)]
        return wrapping.format(prompt) if wrapping else prompt.upper()
