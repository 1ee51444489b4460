"""What the controller does with each event: keep it as a fact of its run, then carry the run on until it must wait.

Events of a run arrive in any order; those of a run that nobody asked for yet are kept until LoopRequested comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from google.protobuf.message import Message

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.controller import facts
from mendloop.controller.domain.records import Outcome, RunState, Training
from mendloop.controller.domain.steering import Action
from mendloop.controller.domain.steps import ended
from mendloop.controller.messages import emit_shortage
from mendloop.controller.ports import Elsewhere, Outcomes, Runs
from mendloop.controller.rounds import Carry, carry_on, roll_back
from mendloop.controller.world import Effects, World
from mendloop.core.contracts import GATEWAY, SERVICES, TRAINER, decode
from mendloop.core.errors import InvalidEvent
from mendloop.core.telemetry import Telemetry
from mendloop.v1 import (
    checkpoint_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
    operations_pb2,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """What the handlers work with. clock gives Unix time in seconds."""

    runs: Runs
    outcomes: Outcomes
    store: ArtifactStore
    telemetry: Telemetry
    clock: Callable[[], float]


def on_loop_requested(event: Event, *, ports: Ports) -> list[Emit]:
    """A run begins; the first request of a run id counts."""
    message = cast(loop_pb2.LoopRequested, event.message)

    def add(state: RunState) -> RunState:
        if state.run.request:
            return state
        return replace(state, run=replace(state.run, request=facts.raw(message)))

    return _apply(event, facts.run_id_of(message), add=add, ports=ports)


def on_checkpoint_ready(event: Event, *, ports: Ports) -> list[Emit]:
    """A training was metered."""
    message = cast(checkpoint_pb2.CheckpointReady, event.message)
    return _apply(event, facts.run_id_of(message), add=partial(_with_training, message=message), ports=ports)


def on_training_failed(event: Event, *, ports: Ports) -> list[Emit]:
    """A training became no checkpoint and would fail again: the run, or its control arm, ends with what was spent.

    One that its GPU-seconds ended leaves what earlier rounds achieved, and BudgetExceeded says what was too little.
    """
    message = cast(checkpoint_pb2.TrainingFailed, event.message)
    cause = checkpoint_pb2.TrainingFailureCause.Name(message.cause).removeprefix("TRAINING_FAILURE_CAUSE_").lower()
    reason = f"the training failed ({cause}): {message.reason}; evidence {message.evidence.sha256[:12]}"
    is_budget = message.cause == checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET
    is_spent = is_budget and not message.position.arm  # a control arm alone ends nothing

    def add(state: RunState) -> RunState:
        state = _with_record(state, facts.failed_training_of(message))
        if message.position.arm:
            return _arm_failed(state, message, handler=TRAINER, reason=reason)
        ending = ended(state, Outcome.BUDGET_EXCEEDED) if is_spent else Outcome.FAILED
        return _ending(state, ending=ending.value, reason=reason)

    def stopped(state: RunState, world: World) -> tuple[RunState, Sequence[Emit]]:
        state, out = carry_on(state, world)
        return state, [emit_shortage(state, facts.shortage_of(message), number=message.position.round), *out]

    then = stopped if is_spent else carry_on
    return _apply(event, facts.run_id_of(message), add=add, ports=ports, then=then)


def on_eval_completed(event: Event, *, ports: Ports) -> list[Emit]:
    """A checkpoint was measured: with its diagnoses it leads to a plan, as a candidate it goes before the gates."""
    message = cast(evaluation_pb2.EvalCompleted, event.message)
    record = facts.evaluation_of(message)

    def add(state: RunState) -> RunState:
        state = _with_training(state, message=message.checkpoint_ready)
        key = (record.round, record.arm, record.plan_id)
        known = {(e.round, e.arm, e.plan_id) for e in state.evaluations}
        return state if key in known else replace(state, evaluations=(*state.evaluations, record))

    return _apply(event, facts.run_id_of(message), add=add, ports=ports)


def on_diagnosis_ready(event: Event, *, ports: Ports) -> list[Emit]:
    """A weak slice has a verdict; when all of the evaluation have one, the round is planned."""
    message = cast(diagnosis_pb2.DiagnosisReady, event.message)
    record = facts.diagnosis_of(message)

    def add(state: RunState) -> RunState:
        key = (record.round, record.arm, record.evaluation_id, record.slice_id)
        known = {(d.round, d.arm, d.evaluation_id, d.slice_id) for d in state.diagnoses}
        return state if key in known else replace(state, diagnoses=(*state.diagnoses, record))

    return _apply(event, facts.run_id_of(message), add=add, ports=ports)


def on_data_batch_ready(event: Event, *, ports: Ports) -> list[Emit]:
    """A batch was made; an empty one ends the run. What people left of one comes from here and says nothing new."""
    message = cast(intervention_pb2.DataBatchReady, event.message)
    if message.reviewed_from.sha256:
        return []
    record = facts.batch_of(message)

    def add(state: RunState) -> RunState:
        return state if state.batch(record.plan_id) else replace(state, batches=(*state.batches, record))

    return _apply(event, facts.run_id_of(message), add=add, ports=ports)


def on_approval_given(event: Event, *, ports: Ports) -> list[Emit]:
    """A person answered; the first answer to a plan counts, and the first to its batch."""
    message = cast(loop_pb2.ApprovalGiven, event.message)
    if message.review:
        return _on_review(event, message, ports=ports)
    record = facts.approval_of(message, now=ports.clock())

    def add(state: RunState) -> RunState:
        return state if state.approval(record.plan_id) else replace(state, approvals=(*state.approvals, record))

    return _apply(event, facts.run_id_of(message), add=add, ports=ports)


def _on_review(event: Event, message: loop_pb2.ApprovalGiven, *, ports: Ports) -> list[Emit]:
    record = facts.review_of(message, now=ports.clock())

    def add(state: RunState) -> RunState:
        return state if state.review(record.plan_id) else replace(state, reviews=(*state.reviews, record))

    return _apply(event, facts.run_id_of(message), add=add, ports=ports)


def on_loop_cancelled(event: Event, *, ports: Ports) -> list[Emit]:
    """Somebody stopped the run."""
    message = cast(loop_pb2.LoopCancelled, event.message)
    who = message.cancelled_by or "a person"
    reason = f"cancelled by {who}: {message.reason or 'no reason given'}"
    return _apply(event, facts.run_id_of(message), add=partial(_ending, ending="cancelled", reason=reason), ports=ports)


def on_loop_steered(event: Event, *, ports: Ports) -> list[Emit]:
    """A person pauses a run, lets it go on, or takes its last promotion back; the last also when it is over."""
    message = cast(loop_pb2.LoopSteered, event.message)
    action = facts.steering_of(message, number=0, now=ports.clock()).action

    def add(state: RunState) -> RunState:
        record = facts.steering_of(message, number=len(state.steerings), now=ports.clock())
        return replace(state, steerings=(*state.steerings, record))

    then = roll_back if action is Action.ROLL_BACK else carry_on
    return _apply(event, facts.run_id_of(message), add=add, ports=ports, then=then)


def on_dead_letter(event: Event, *, ports: Ports) -> list[Emit]:
    """A service gave up on an event of a run: the run has failed, or the control arm that the event was of.

    A letter that belongs to no run is for operators alone, and so is one of a foreign subscriber or of the gateway:
    no run waits for them. Never raises Permanent, for that would write a dead letter about a dead letter.
    """
    letter = cast(operations_pb2.DeadLetter, event.message)
    original = _original(letter)
    if original is None:
        log.warning("dead letter ends no run", extra={"topic": letter.topic, "handler": letter.handler})
        return []
    reason = (
        f"{letter.handler} gave up on {original.DESCRIPTOR.name} after {letter.attempt_count} tries: {letter.reason}"
    )

    def add(state: RunState) -> RunState:
        if isinstance(original, loop_pb2.LoopRequested) and not state.run.request:
            state = replace(state, run=replace(state.run, request=facts.raw(original)))
        if facts.arm_of(original):
            return _arm_failed(state, original, handler=letter.handler, reason=reason)
        return _ending(state, ending="failed", reason=reason)

    return _apply(event, facts.run_id_of(original), add=add, ports=ports)


def handlers(ports: Ports) -> dict[type[Message], Handler]:
    """The handlers bound to their ports."""
    table: dict[type[Message], Callable[..., list[Emit]]] = {
        loop_pb2.LoopRequested: on_loop_requested,
        loop_pb2.LoopCancelled: on_loop_cancelled,
        loop_pb2.LoopSteered: on_loop_steered,
        checkpoint_pb2.CheckpointReady: on_checkpoint_ready,
        checkpoint_pb2.TrainingFailed: on_training_failed,
        evaluation_pb2.EvalCompleted: on_eval_completed,
        diagnosis_pb2.DiagnosisReady: on_diagnosis_ready,
        loop_pb2.ApprovalGiven: on_approval_given,
        intervention_pb2.DataBatchReady: on_data_batch_ready,
        operations_pb2.DeadLetter: on_dead_letter,
    }
    return {message: partial(handler, ports=ports) for message, handler in table.items()}


def _apply(
    event: Event, run_id: str, *, add: Callable[[RunState], RunState], ports: Ports, then: Carry = carry_on
) -> list[Emit]:
    """Keep the fact and carry the run on, in one transaction; then count what was decided.

    A finished run takes no further fact, but its promotion can be taken back.
    """
    now = ports.clock()
    effects = Effects()

    def change(state: RunState, elsewhere: Elsewhere) -> tuple[RunState, Sequence[Emit]]:
        effects.clear()
        if state.run.outcome and then is not roll_back:
            return state, []
        world = World(ports.outcomes, ports.store, elsewhere, now, effects)
        return then(add(state), world)

    outputs = ports.runs.apply(
        run_id,
        event_id=event.event_id,
        event_type=event.message.DESCRIPTOR.full_name,
        now=now,
        change=change,
    )
    effects.count(ports.telemetry)
    return outputs


def _with_training(state: RunState, *, message: checkpoint_pb2.CheckpointReady) -> RunState:
    if facts.is_remeasured(message):
        return state
    return _with_record(state, facts.training_of(message))


def _with_record(state: RunState, record: Training) -> RunState:
    known = {(t.round, t.arm, t.plan_id) for t in state.trainings}
    if (record.round, record.arm, record.plan_id) in known:
        return state
    return replace(state, trainings=(*state.trainings, record))


def _arm_failed(state: RunState, message: Message, *, handler: str, reason: str) -> RunState:
    """The first failure of a control counts."""
    record = facts.arm_failure_of(message, handler=handler, reason=reason)
    known = {(failure.round, failure.arm) for failure in state.arm_failures}
    return state if (record.round, record.arm) in known else replace(state, arm_failures=(*state.arm_failures, record))


def _ending(state: RunState, *, ending: str, reason: str) -> RunState:
    if state.run.ending:
        return state
    return replace(state, run=replace(state.run, ending=ending, ending_reason=reason))


def _original(letter: operations_pb2.DeadLetter) -> Message | None:
    """The event that was given up, where a run waits for it."""
    event_type = next((header.value for header in letter.headers if header.name == "ce_type"), "")
    if letter.handler not in SERVICES or letter.handler == GATEWAY:
        return None
    try:
        original: Any = decode(event_type, letter.value)
    except InvalidEvent:
        return None
    has_run = not isinstance(original, operations_pb2.DeadLetter) and original.position.run_id
    return original if has_run else None
