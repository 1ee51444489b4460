"""A task of inspect_ai as a task family: its dataset, the prompt that its solver makes, its scorer.

Knows inspect_ai; knows no model. The solver runs twice: with a stub in place of the model to see the prompt, and with
the output in the stub's place to be scored. A solver that asks the model more than once, or uses tools, is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score, Split, fingerprint
from mendloop.core.tasks import Conditions, Options
from mendloop.steps.checkers import DESCRIPTION, StepNames, checkers_of, with_steps
from mendloop.suites.dynamic import checked, lenient
from mendloop.suites.jsonl import read_examples

try:
    from inspect_ai.model import ChatMessageUser, ModelName, ModelOutput
    from inspect_ai.scorer import Target, value_to_float
    from inspect_ai.solver import TaskState, chain
except ImportError as error:
    raise ImportError("the task family inspect needs inspect_ai: uv pip install 'mendloop[inspect]'") from error

SPLITS: tuple[Split, ...] = ("search", "confirm", "sealed")


class InspectOptions(BaseModel):
    """suite.options of the family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="Python file with the task; relative to where the services run.")
    task: str = Field(description="Name of the function that makes it.")
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of the function.")
    axes: list[str] = Field(default_factory=list, description="Metadata fields of samples that become axes.")
    steps: StepNames = Field(default_factory=list, description=DESCRIPTION)


class InspectTask:
    """One task of inspect_ai with one scorer. A score is value_to_float of the scorer's value and must lie in 0..1.

    The extraction is "scorer" where the scorer names an answer, else "none".
    """

    stop_strings: tuple[str, ...] = ()
    asker = None

    def __init__(self, options: Options) -> None:
        self._options = checked(InspectOptions, options, family="inspect")
        self._task = _load(self._options)
        scorers = self._task.scorer or []
        if len(scorers) != 1:
            raise InvalidRecipe(f"task {self._options.task!r} has {len(scorers)} scorers; one is needed")
        self._scorer = scorers[0]
        self._checkers = checkers_of(self._options.steps)
        solver = self._task.solver
        self._solver = chain(*solver) if isinstance(solver, list) else solver

    def corpus(self, options: Options) -> list[Example]:
        """Examples of a JSONL file: options path, prompt, completion (names of the fields)."""
        return read_examples(options, annotate=self.annotate)

    def pool(self, options: Options) -> list[Example]:
        """Examples of a JSONL file, as for the corpus."""
        return read_examples(options, annotate=self.annotate)

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Samples of the dataset with a prompt of their own, drawn by the seed; see the class for what is refused."""
        made = {fingerprint(item.prompt): item for item in map(self._item, self._task.dataset)}
        items, wanted = list(made.values()), sum(counts.values())
        if len(items) < wanted:
            raise InvalidRecipe(
                f"task {self._options.task!r} has {len(items)} different samples, {wanted} are asked for"
            )
        random.Random(seed).shuffle(items)
        splits = [split for split in SPLITS for _ in range(counts.get(split, 0))]
        return [
            Item(item.item_id, item.prompt, item.target, split, document=item.document, axes=item.axes)
            for item, split in zip(items, splits, strict=False)
        ]

    def annotate(self, prompt: str) -> Axes:
        """Nothing: axes come from the samples' metadata."""
        return {}

    def score(self, item: Item, output: str) -> Score:
        """The task's own solver and scorer on the output."""
        document = json.loads(item.document)
        state, _ = self._solved(document, output)
        score = asyncio.run(self._scorer(state, Target(document["target"])))
        found = Score(float(value_to_float()(score.value)), "scorer" if score.answer else "none")
        return with_steps(found, prompt=item.prompt, output=output, checkers=self._checkers)

    def rescore(self, item: Item, output: str) -> Score:
        """The task's scorer, then the lenient one."""
        own = self.score(item, output)
        return own if own.value >= 1 else lenient(item, output)

    def reference(self, item: Item, *, is_right: bool) -> str | None:
        """Letters of the right or a wrong choice, where there are choices; else None."""
        document = json.loads(item.document)
        if not document["choices"]:
            return None
        letters = [chr(ord("A") + at) for at in range(len(document["choices"]))]
        right = document["target"][0]
        chosen = right if is_right else next(letter for letter in letters if letter not in document["target"])
        return f"ANSWER: {chosen}"

    def verify(self, prompt: str, answer: str) -> bool:
        """No program can tell the answer to any prompt."""
        return False

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Nothing: a benchmark's samples are never taught."""
        return iter(())

    def _item(self, sample: Any) -> Item:
        target = [sample.target] if isinstance(sample.target, str) else list(sample.target)
        if not isinstance(sample.input, str) or not any(target):
            raise InvalidRecipe(f"sample {sample.id!r} has no text input or no target; only such samples are measured")
        document = {
            "input": sample.input,
            "target": target,
            "choices": sample.choices,
            "metadata": json.loads(json.dumps(sample.metadata or {}, default=str)),
        }
        _, prompt = self._solved(document, "")
        text = json.dumps(document, ensure_ascii=False, sort_keys=True)
        gold = sample.choices[ord(target[0]) - ord("A")] if sample.choices else target[0]
        axes = {name: (str(document["metadata"].get(name, "none")),) for name in self._options.axes}
        axes["length"] = (_length(prompt),)
        return Item(hashlib.sha256(text.encode()).hexdigest()[:16], prompt, gold, "search", document=text, axes=axes)

    def _solved(self, document: Mapping[str, Any], output: str) -> tuple[Any, str]:
        """The state after the solver, with the output in the model's place, and the prompt that it asked with."""
        state = TaskState(
            model=ModelName("mendloop/checkpoint"),
            sample_id=0,
            epoch=1,
            input=document["input"],
            messages=_user(document["input"]),
            target=Target(document["target"]),
            choices=document["choices"],
            metadata=dict(document["metadata"]),
        )
        asked: list[str] = []

        async def generate(state: Any, *_: Any, **__: Any) -> Any:
            asked.append("\n\n".join(message.text for message in state.messages))
            state.output = ModelOutput.from_content("mendloop/checkpoint", output)
            state.messages.append(state.output.message)
            return state

        solved = asyncio.run(self._solver(state, generate))
        if len(asked) != 1 or solved.tools:
            raise InvalidRecipe(
                f"the solver of task {self._options.task!r} asks the model {len(asked)} times with"
                f" {len(solved.tools)} tools; only solvers that ask once, without tools, are measured"
            )
        return solved, asked[0]


def _load(options: InspectOptions) -> Any:
    spec = importlib.util.spec_from_file_location(f"inspect_task_{options.path.stem}", options.path)
    if spec is None or spec.loader is None or not options.path.is_file():
        raise InvalidRecipe(f"suite.options.path is {options.path}; no Python file is there")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        make: Callable[..., Any] = getattr(module, options.task)
        return make(**options.args)
    except Exception as error:  # a task file is foreign code
        raise InvalidRecipe(
            f"inspect_ai task {options.task!r} of {options.path} cannot be made: {type(error).__name__}: {error}"
        ) from error


def _user(text: str) -> list[Any]:
    return [ChatMessageUser(content=text)]


def _length(prompt: str) -> str:
    words = len(prompt.split())
    bound = next((bound for bound in (16, 64, 256) if words <= bound), None)
    return f"<={bound} words" if bound else ">256 words"
