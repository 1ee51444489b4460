"""Scores the items of a shard with a model and keeps their outcomes batch by batch. Knows ports; knows no event."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mendloop.core.errors import Interrupted, InvalidRecipe, Permanent, Retryable
from mendloop.core.records import Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import Task
from mendloop.core.telemetry import Telemetry
from mendloop.evaluator.domain.draws import seed_of
from mendloop.evaluator.domain.scoring import Cost, outcome_of, total_cost
from mendloop.evaluator.domain.sharding import batches_of, shard_of
from mendloop.evaluator.ports import MeteredModel, OutcomeStore, Scored
from mendloop.models.asking import asker_of
from mendloop.models.generation import Generation, Sampling, TokenLogprobs

log = logging.getLogger(__name__)
BATCH_ITEMS = 256
"""Outputs between two looks at whether the service stops, and the most that a kill -9 loses."""


WHOLE = "all"
"""The part under which the outcomes of a whole evaluation are kept: the first draw of each item."""


def shard_name(index: int, count: int) -> str:
    """The part under which a shard's outcomes are kept."""
    return f"{index}-of-{count}"


class Draw(NamedTuple):
    """One output of each item, and the seed that it was drawn with."""

    generations: list[Generation]
    seeds: list[int]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One shard of one evaluation at work."""

    evaluation_id: str
    index: int
    count: int
    spec: RunSpec
    task: Task
    load: Callable[[], MeteredModel]
    telemetry: Telemetry
    is_stopping: Callable[[], bool]
    on_scored: Callable[[int], None] = lambda count: None
    """Told how many outcomes more there are, for whoever shows progress."""

    def scored(self, items: Sequence[Item], *, kept_in: OutcomeStore) -> Scored:
        """The shard's outcomes of these items; what is kept is not scored again.

        Raises Interrupted between batches where the service stops, Permanent where an item cannot be scored.
        """
        name = shard_name(self.index, self.count)
        found = self._found(name, kept_in=kept_in)
        if found is not None:
            log.info("shard is scored already", extra={"evaluation_id": self.evaluation_id, "shard": name})
            return found
        size = max(1, BATCH_ITEMS // self.spec.recipe.suite.repeats)
        batches = batches_of(shard_of(items, index=self.index, count=self.count), size=size)
        if len(batches) <= 1:
            outcomes, cost = self._measure(batches[0]) if batches else ([], Cost())
            return kept_in.keep(self.evaluation_id, name, outcomes=outcomes, cost=cost)
        parts = [self._part(f"{name}.batch-{i}", batch, kept_in=kept_in) for i, batch in enumerate(batches)]
        return kept_in.keep(
            self.evaluation_id,
            name,
            outcomes=[row for part in parts for row in kept_in.rows(part)],
            cost=total_cost(part.cost for part in parts),
        )

    def _part(self, name: str, batch: Sequence[Item], *, kept_in: OutcomeStore) -> Scored:
        found = self._found(name, kept_in=kept_in)
        if found is not None:
            return found
        outcomes, cost = self._measure(batch)
        return kept_in.keep(self.evaluation_id, name, outcomes=outcomes, cost=cost)

    def _found(self, name: str, *, kept_in: OutcomeStore) -> Scored | None:
        found = kept_in.find(self.evaluation_id, name)
        if found is not None:
            self.on_scored(len(kept_in.rows(found)))
        return found

    def _measure(self, batch: Sequence[Item]) -> tuple[list[Outcome], Cost]:
        if self.is_stopping():
            raise Interrupted(f"stopped in shard {shard_name(self.index, self.count)} of {self.evaluation_id}")
        model = self.load()
        started = time.monotonic()
        draws, logprobs = self._ask(model, batch)
        outcomes = [
            outcome_of(
                item, generation=generation, logprobs=logprob, task=self.task, repeat_index=repeat, seed=draw.seeds[at]
            )
            for repeat, draw in enumerate(draws)
            for at, (item, generation, logprob) in enumerate(zip(batch, draw.generations, logprobs, strict=True))
        ]
        wall_s = time.monotonic() - started
        token_count = sum(outcome.output_token_count for outcome in outcomes)
        self.telemetry.add("mendloop_items_scored", len(outcomes))
        self.telemetry.add("mendloop_tokens", token_count, use="generate")
        self.on_scored(len(outcomes))
        return outcomes, Cost(wall_s, wall_s if model.uses_gpu else 0.0, token_count)

    def _ask(self, model: MeteredModel, batch: Sequence[Item]) -> tuple[list[Draw], list[TokenLogprobs]]:
        try:
            return self._answers(model, batch)
        except Exception as error:
            if not any(item.split == "sealed" for item in batch):
                raise
            # a backend may quote the prompt that it failed on, and what is raised here ends in logs and events
            kind = Retryable if isinstance(error, Retryable) else Permanent
            raise kind(f"the model failed on sealed items: {type(error).__name__} (its words stay sealed)") from None

    def _answers(self, model: MeteredModel, batch: Sequence[Item]) -> tuple[list[Draw], list[TokenLogprobs]]:
        suite, asker = self.spec.recipe.suite, asker_of(self.task)
        if asker is not None:
            if suite.temperature:
                raise InvalidRecipe(
                    f"suite.temperature is {suite.temperature}, but task {self.spec.recipe.task!r} asks the model in"
                    " its own way, without chance; set it to 0"
                )
            generations, logprobs = asker.ask(batch, model=model, prompt=self.spec.prompt)
            return [Draw(generations, [0] * len(batch))], logprobs
        prompts = [self.spec.prompt(item.prompt) for item in batch]
        draws = [self._draw(model, batch, prompts, repeat=repeat) for repeat in range(suite.repeats)]
        return draws, model.logprobs(prompts, [item.target for item in batch])

    def _draw(self, model: MeteredModel, batch: Sequence[Item], prompts: Sequence[str], *, repeat: int) -> Draw:
        suite, stop = self.spec.recipe.suite, self.task.stop_strings
        if not suite.temperature:
            greedy = model.generate(prompts, max_new_tokens=suite.max_new_tokens, stop=stop)
            return Draw(greedy, [0] * len(batch))
        seeds = [seed_of(item.item_id, seed=suite.seed, repeat_index=repeat) for item in batch]
        sampling = Sampling(suite.temperature, suite.top_p, tuple(seeds))
        drawn = model.sample(prompts, sampling=sampling, max_new_tokens=suite.max_new_tokens, stop=stop)
        return Draw(drawn, seeds)
