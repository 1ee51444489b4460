"""The task family reasoning-gym: any generator of the package, drawn afresh from a seed, scored by its own scorer.

Knows reasoning_gym; knows no model.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Item, Score
from mendloop.core.tasks import Conditions, Options, Task
from mendloop.suites.dynamic import Draw, DrawnTask, Question, checked, lenient

try:
    import reasoning_gym
except ImportError as error:
    raise ImportError("the task family reasoning-gym needs it: uv pip install 'mendloop[reasoning-gym]'") from error

SEEDS = 2**31 - 1
"""Seeds of items, corpus and pool lie below."""
TEACHER_SEEDS = (2**31 + 2**16, 2**32 - 2**16)
"""Seeds of the teacher; BLOCK and more away from every other one, and below 2^32, which numpy asks for."""
BLOCK = 256
"""Questions of one seed; entry i of a dataset is drawn from seed + i, so near seeds would share entries."""
SAMPLE = 16
"""Questions in a row of one generator, where a suite has several."""
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
Seed = Callable[[random.Random], int]


class GymOptions(BaseModel):
    """suite.options of the family, beside draw and folds. Either one generator or several."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field("", description="Name of a generator, e.g. chain_sum.")
    config: dict[str, Any] = Field(default_factory=dict, description="Its settings, without seed and size.")
    datasets: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Several generators in equal shares: names and settings."
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> GymOptions:
        if bool(self.dataset) == bool(self.datasets) or (self.config and self.datasets):
            raise ValueError("give either dataset, with its config, or datasets")
        return self

    def settings(self) -> dict[str, str]:
        """Name to settings as JSON."""
        chosen = self.datasets or {self.dataset: self.config}
        return {name: json.dumps(config, sort_keys=True) for name, config in chosen.items()}


def reasoning_gym_task(options: Options) -> Task:
    """The family's factory. Axes: dataset, what the generator calls `difficulty`, and the length of the prompt.

    It teaches as well: new questions of a slice, from seeds that no item, corpus or pool is drawn from, with the
    generator's own answers. Raises InvalidRecipe for an unknown generator or wrong settings.
    """
    own = {name: value for name, value in options.items() if name not in ("draw", "folds")}
    settings = checked(GymOptions, own, family="reasoning-gym").settings()
    for name, config in settings.items():
        _dataset(name, config, 0)

    def score(item: Item, output: str) -> Score:
        return _score(settings, item, output)

    def lesson(conditions: Conditions) -> Draw:
        return lambda _, rng: _draw(_asked(settings, conditions), rng, seed=_teacher_seed)

    def draw(_: Options, rng: random.Random) -> Iterator[Question]:
        return _draw(settings, rng, seed=_seed)

    return DrawnTask(draw, options, scorer=score, rescorer=lenient, stop_strings=(), lesson=lesson)


def _seed(rng: random.Random) -> int:
    return rng.randrange(SEEDS)


def _teacher_seed(rng: random.Random) -> int:
    return rng.randrange(*TEACHER_SEEDS)


def _asked(settings: Mapping[str, str], conditions: Conditions) -> dict[str, str]:
    """The generators that can serve a slice. Raises ValueError where the suite has none of them."""
    wanted = [value for axis, value in conditions if axis == "dataset"]
    found = {name: config for name, config in settings.items() if all(value == name for value in wanted)}
    if not found:
        raise ValueError(f"no generator {', '.join(wanted)} in this suite; it has {', '.join(settings)}")
    return found


def _draw(settings: Mapping[str, str], rng: random.Random, *, seed: Seed) -> Iterator[Question]:
    """Of one generator block by block, of several in turn."""
    drawn = [_of_one(name, config, rng, seed=seed) for name, config in settings.items()]
    while True:
        for questions in drawn:
            yield from islice(questions, SAMPLE)


def _of_one(name: str, config: str, rng: random.Random, *, seed: Seed) -> Iterator[Question]:
    while True:
        answered = 0
        for entry in _dataset(name, config, seed(rng)):
            if not str(entry["answer"]).strip():
                continue
            answered += 1
            document = json.dumps({"answer": entry["answer"], "metadata": entry["metadata"]}, default=str)
            yield Question(entry["question"], str(entry["answer"]), axes=_axes(name, entry), document=document)
        if not answered:
            raise InvalidRecipe(f"reasoning-gym's {name!r} gives no answers with {config}: take another generator")


def _score(settings: Mapping[str, str], item: Item, output: str) -> Score:
    """The generator's own score of the text in <answer> tags, else of the whole output."""
    entry = {"question": item.prompt, **json.loads(item.document)}
    tagged = _ANSWER.findall(output)
    answer = tagged[-1].strip() if tagged else output.strip()
    if not answer:
        return Score(0.0, "none")
    name = _generator(settings, item, entry)
    value = float(_dataset(name, settings[name], 0).score_answer(answer=answer, entry=entry))
    return Score(min(1.0, max(0.0, value)), "answer_tag" if tagged else "whole")


def _generator(settings: Mapping[str, str], item: Item, entry: Mapping[str, Any]) -> str:
    """The generator of an item. Raises ValueError where nothing says which of several it was."""
    names = [*item.axes.get("dataset", ()), str(entry["metadata"].get("source_dataset"))]
    if len(settings) == 1:
        return next(iter(settings))
    found = next((name for name in names if name in settings), None)
    if found is None:
        raise ValueError(f"item {item.item_id} is of no generator of this suite; it has {', '.join(settings)}")
    return found


def _scalar(own: object, setting: object) -> object:
    """The question's own value where the generator tells it, else the setting, which is a range for many."""
    return own if isinstance(own, str | int | float) else setting


@lru_cache(maxsize=64)
def _dataset(name: str, settings: str, seed: int) -> Any:
    try:
        return reasoning_gym.create_dataset(name, seed=seed, size=BLOCK, **json.loads(settings))
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidRecipe(f"reasoning-gym cannot make {name!r} with {settings}: {error}") from error


def _axes(name: str, entry: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    difficulty = entry["metadata"].get("difficulty") or {}
    if not isinstance(difficulty, dict):
        difficulty = {"difficulty": difficulty}
    own = entry["metadata"]
    axes = {key: (str(_scalar(own.get(key), value)),) for key, value in difficulty.items()}
    words = len(entry["question"].split())
    bound = next((bound for bound in (16, 32, 64, 128) if words <= bound), None)
    return {"dataset": (name,), **axes, "length": (f"<={bound} words" if bound else ">128 words",)}
