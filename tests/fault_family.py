"""A small fault family for tests: a part of SCAN whose commands a tiny model can learn, and no training of minutes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item
from mendloop.diagnostician.domain.causes import Cause
from mendloop.examples.faults.family import Place, Size, Traits
from mendloop.examples.scan.axes import annotated_commands
from mendloop.examples.scan.model import build_tokenizer
from mendloop.examples.words import SPECIAL, save_untrained

TRAITS = Traits(
    name="tiny",
    task_name="scan",
    template="IN: {prompt} OUT:",
    other_template="OUT: {prompt} IN:",
    axes=("verb", "direction", "repetition"),
    settings=TrainSettings(steps=40, batch_size=16, learning_rate=1e-2, warmup_steps=4),
    size=Size(32, 1),
    small_size=Size(16, 1),
    max_new_tokens=16,
)
CAUSES = frozenset(Cause) - {Cause.UNKNOWN}


class TinyFamily:
    """Commands of one phrase; items are every third of them in an order drawn by the seed."""

    traits = TRAITS

    def corpus(self, seed: int) -> list[Example]:
        return [row for at, row in enumerate(self._commands(seed)) if at % 3]

    def items(self, seed: int, *, count: int) -> list[Item]:
        rows = self._commands(seed)[::3][:count]
        return [
            Item(f"i{at}", row.prompt, row.completion, "confirm" if at % 2 else "search", axes=row.axes)
            for at, row in enumerate(rows)
        ]

    def build_model(self, directory: Path, *, seed: int, size: Size | None = None) -> Path:
        chosen = size or TRAITS.size
        words = sorted(build_tokenizer().get_vocab().keys() - set(SPECIAL))
        return save_untrained(
            directory,
            words=words,
            seed=seed,
            hidden_size=chosen.hidden_size,
            layer_count=chosen.layer_count,
            context=64,
        )

    def places(self, seed: int) -> Sequence[Place]:
        verbs = ["jump", "walk", "run", "look"]
        random.Random(seed).shuffle(verbs)
        return [Place((("verb", verb),), CAUSES, (verb,)) for verb in verbs]

    def answer_only(self, example: Example) -> Example:
        last = example.completion.split()[-1]
        return Example(example.prompt, last, example.source, axes=example.axes)

    def wrong_label(self, example: Example, *, rng: random.Random) -> Example:
        wrong = [word for word in ("I_WALK", "I_RUN") if word not in example.completion.split()]
        return Example(example.prompt, f"{example.completion} {rng.choice(wrong)}", example.source, axes=example.axes)

    def unusual(self, prompt: str) -> str:
        return f"please {prompt}"

    def wrapped(self, prompt: str, *, style: int) -> str:
        return f"{prompt} {'?' * (1 + style)}"

    def _commands(self, seed: int) -> list[Example]:
        rows = [
            Example(row.command, row.actions, "corpus", axes=row.axes)
            for row in annotated_commands()
            if not {"and", "after"} & set(row.command.split())
        ]
        random.Random(seed).shuffle(rows)
        return rows
