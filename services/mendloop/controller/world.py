"""What the steps of one event share: ports, the time, what is counted afterwards, and how a plan is settled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mendloop.artifacts.store import ArtifactStore
from mendloop.controller import messages
from mendloop.controller.domain import budget
from mendloop.controller.domain.records import GateAnswer, Outcome, Plan, RunState, total
from mendloop.controller.ports import Elsewhere, Outcomes
from mendloop.core.errors import Permanent
from mendloop.core.recipe import PriceSettings
from mendloop.core.run_spec import RunSpec
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of
from mendloop.v1 import common_pb2, loop_pb2


@dataclass(slots=True)
class Effects:
    """What is counted once the transaction stands."""

    answers: list[GateAnswer] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def clear(self) -> None:
        """Forget the effects of a transaction that did not stand."""
        self.answers.clear()
        self.outcomes.clear()

    def count(self, telemetry: Telemetry) -> None:
        """Add to the metrics."""
        for answer in self.answers:
            telemetry.add("mendloop_gates", gate=answer.gate, result="passed" if answer.passed else "failed")
        for outcome in self.outcomes:
            telemetry.add("mendloop_runs_finished", outcome=outcome.value)


@dataclass(frozen=True, slots=True)
class World:
    """What the steps of one event share."""

    outcomes: Outcomes
    store: ArtifactStore
    elsewhere: Elsewhere
    now: float
    effects: Effects


def settled(state: RunState, plan: Plan, prices: PriceSettings) -> RunState:
    """What the plan's work was metered at takes the place of what it held."""
    training, batch, measured = state.training(plan), state.batch(plan.plan_id), state.evaluation_of(plan)
    gpu_s = total(part.cost for part in (training, batch, measured) if part).gpu_s
    usage = budget.Usage(gpu_s, batch.cost.token_count if batch else 0)
    metered = {
        budget.TRAIN_TOKENS: float(training.cost.token_count) if training else 0.0,
        budget.NEW_EXAMPLES: float(state.added_count(plan)),
        budget.CONTROL_EXAMPLES: float(state.added_count(plan)),
        budget.WALL_S: sum(part.cost.wall_s for part in (training, batch, measured) if part),
        **usage.by_resource(prices),
    }
    return replace(state, reservations=budget.settle(state.reservations, plan.plan_id, metered=metered))


def prices_of(state: RunState, store: ArtifactStore) -> PriceSettings:
    """None at all where the run failed because its specification cannot be read."""
    try:
        return RunSpec.load(store, artifact_of(run_spec_of(state))).recipe.budget.prices
    except (Permanent, ValueError):
        return PriceSettings()


def run_spec_of(state: RunState) -> common_pb2.ArtifactRef:
    """The specification of the checkpoint that stands: a repaired evaluation brought its own."""
    if state.standing is not None:
        spec = messages.completed(state.standing).checkpoint_ready.run_spec
        if spec.sha256:
            return spec
    return loop_pb2.LoopRequested.FromString(state.run.request).run_spec
