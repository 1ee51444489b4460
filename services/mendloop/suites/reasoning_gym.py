"""The task family reasoning-gym: any generator of the package, drawn afresh from a seed, scored by its own scorer.

Knows reasoning_gym; knows no model.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Item, Score
from mendloop.core.tasks import Options, Task
from mendloop.suites.dynamic import DrawnTask, Question, checked, lenient

try:
    import reasoning_gym
except ImportError as error:
    raise ImportError("the task family reasoning-gym needs it: uv pip install 'mendloop[reasoning-gym]'") from error

SEEDS = 2**31 - 1
BLOCK = 256
"""Questions of one seed; entry i of a dataset is drawn from seed + i, so near seeds would share entries."""
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class GymOptions(BaseModel):
    """suite.options of the family, beside draw and folds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(description="Name of a generator, e.g. chain_sum.")
    config: dict[str, Any] = Field(default_factory=dict, description="Its settings, without seed and size.")


def reasoning_gym_task(options: Options) -> Task:
    """The family's factory. Axes: each scalar of the generator's `difficulty`, and the length of the prompt.

    Raises InvalidRecipe for an unknown generator or wrong settings.
    """
    own = {name: value for name, value in options.items() if name not in ("draw", "folds")}
    chosen = checked(GymOptions, own, family="reasoning-gym")
    settings = json.dumps(chosen.config, sort_keys=True)
    _dataset(chosen.dataset, settings, 0)

    def score(item: Item, output: str) -> Score:
        return _score(chosen.dataset, settings, item, output)

    return DrawnTask(_draw, options, scorer=score, rescorer=lenient, stop_strings=())


def _draw(options: Options, rng: random.Random) -> Iterator[Question]:
    name, settings = str(options["dataset"]), json.dumps(options.get("config") or {}, sort_keys=True)
    while True:
        for entry in _dataset(name, settings, rng.randrange(SEEDS)):
            document = json.dumps({"answer": entry["answer"], "metadata": entry["metadata"]}, default=str)
            yield Question(entry["question"], str(entry["answer"]), axes=_axes(name, entry), document=document)


def _score(name: str, settings: str, item: Item, output: str) -> Score:
    """The generator's own score of the text in <answer> tags, else of the whole output."""
    entry = {"question": item.prompt, **json.loads(item.document)}
    tagged = _ANSWER.findall(output)
    answer = tagged[-1].strip() if tagged else output.strip()
    if not answer:
        return Score(0.0, "none")
    value = float(_dataset(name, settings, 0).score_answer(answer=answer, entry=entry))
    return Score(min(1.0, max(0.0, value)), "answer_tag" if tagged else "whole")


@lru_cache(maxsize=64)
def _dataset(name: str, settings: str, seed: int) -> Any:
    try:
        return reasoning_gym.create_dataset(name, seed=seed, size=BLOCK, **json.loads(settings))
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidRecipe(f"reasoning-gym cannot make {name!r} with {settings}: {error}") from error


def _axes(name: str, entry: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    difficulty = entry["metadata"].get("difficulty") or {}
    axes = {key: (str(value),) for key, value in difficulty.items()}
    words = len(entry["question"].split())
    bound = next((bound for bound in (16, 32, 64, 128) if words <= bound), None)
    return {"dataset": (name,), **axes, "length": (f"<={bound} words" if bound else ">128 words",)}
