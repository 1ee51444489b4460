"""Scores the items of a shard with a model and keeps their outcomes batch by batch. Knows ports; knows no event."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mendloop.core.errors import Interrupted, Permanent, Retryable
from mendloop.core.records import Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import Task
from mendloop.core.telemetry import Telemetry
from mendloop.evaluator.domain.scoring import Cost, outcome_of, total_cost
from mendloop.evaluator.domain.sharding import batches_of, shard_of
from mendloop.evaluator.ports import MeteredModel, OutcomeStore, Scored
from mendloop.models.asking import asker_of
from mendloop.models.generation import Generation, TokenLogprobs

log = logging.getLogger(__name__)
BATCH_ITEMS = 256
"""Items between two looks at whether the service stops, and the most that a kill -9 loses."""


def shard_name(index: int, count: int) -> str:
    """The part under which a shard's outcomes are kept."""
    return f"{index}-of-{count}"


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

    def scored(self, items: Sequence[Item], *, kept_in: OutcomeStore) -> Scored:
        """The shard's outcomes of these items; what is kept is not scored again.

        Raises Interrupted between batches where the service stops, Permanent where an item cannot be scored.
        """
        name = shard_name(self.index, self.count)
        found = kept_in.find(self.evaluation_id, name)
        if found is not None:
            log.info("shard is scored already", extra={"evaluation_id": self.evaluation_id, "shard": name})
            return found
        batches = batches_of(shard_of(items, index=self.index, count=self.count), size=BATCH_ITEMS)
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
        found = kept_in.find(self.evaluation_id, name)
        if found is not None:
            return found
        outcomes, cost = self._measure(batch)
        return kept_in.keep(self.evaluation_id, name, outcomes=outcomes, cost=cost)

    def _measure(self, batch: Sequence[Item]) -> tuple[list[Outcome], Cost]:
        if self.is_stopping():
            raise Interrupted(f"stopped in shard {shard_name(self.index, self.count)} of {self.evaluation_id}")
        model = self.load()
        started = time.monotonic()
        generations, logprobs = self._ask(model, batch)
        outcomes = [
            outcome_of(item, generation=generation, logprobs=logprob, task=self.task)
            for item, generation, logprob in zip(batch, generations, logprobs, strict=True)
        ]
        wall_s = time.monotonic() - started
        token_count = sum(outcome.output_token_count for outcome in outcomes)
        self.telemetry.add("mendloop_items_scored", len(outcomes))
        self.telemetry.add("mendloop_tokens", token_count, use="generate")
        return outcomes, Cost(wall_s, wall_s if model.uses_gpu else 0.0, token_count)

    def _ask(self, model: MeteredModel, batch: Sequence[Item]) -> tuple[list[Generation], list[TokenLogprobs]]:
        prompts = [self.spec.prompt(item.prompt) for item in batch]
        asker = asker_of(self.task)
        try:
            if asker is not None:
                return asker.ask(batch, model=model, prompt=self.spec.prompt)
            generations = model.generate(
                prompts, max_new_tokens=self.spec.recipe.suite.max_new_tokens, stop=self.task.stop_strings
            )
            return generations, model.logprobs(prompts, [item.target for item in batch])
        except Exception as error:
            if not any(item.split == "sealed" for item in batch):
                raise
            # a backend may quote the prompt that it failed on, and what is raised here ends in logs and events
            kind = Retryable if isinstance(error, Retryable) else Permanent
            raise kind(f"the model failed on sealed items: {type(error).__name__} (its words stay sealed)") from None
