"""The event table: which message travels on which topic, keyed by what, from whom to whom. Knows no broker."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message

from mendloop.core.errors import InvalidEvent
from mendloop.v1 import (
    checkpoint_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
    operations_pb2,
)

EVALUATOR = "evaluator"
DIAGNOSTICIAN = "diagnostician"
DATA_GENERATOR = "data-generator"
TRAINER = "trainer"
CONTROLLER = "controller"
GATEWAY = "gateway"
SERVICES = (EVALUATOR, DIAGNOSTICIAN, DATA_GENERATOR, TRAINER, CONTROLLER, GATEWAY)

TYPE_PREFIX = "mendloop.v1."


@dataclass(frozen=True, slots=True)
class Contract:
    """One row of the event table."""

    message: type[Message]
    topic: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    is_public: bool = False

    @property
    def event_type(self) -> str:
        """The CloudEvents type, e.g. mendloop.v1.EvalFailed."""
        return TYPE_PREFIX + self.message.DESCRIPTOR.name


def _topic(name: str) -> str:
    return f"mendloop.{name}.v1"


CONTRACTS: tuple[Contract, ...] = (
    Contract(loop_pb2.LoopRequested, _topic("loop-requested"), (GATEWAY,), (TRAINER, CONTROLLER, GATEWAY)),
    Contract(loop_pb2.LoopCancelled, _topic("loop-cancelled"), (GATEWAY,), (CONTROLLER, GATEWAY)),
    Contract(loop_pb2.LoopSteered, _topic("loop-steered"), (GATEWAY,), (CONTROLLER, GATEWAY)),
    Contract(
        checkpoint_pb2.CheckpointReady,
        _topic("checkpoint-ready"),
        (TRAINER,),
        (EVALUATOR, CONTROLLER, GATEWAY),
        is_public=True,
    ),
    Contract(checkpoint_pb2.TrainingFailed, _topic("training-failed"), (TRAINER,), (CONTROLLER, GATEWAY)),
    Contract(evaluation_pb2.EvaluationShard, _topic("evaluation-shard"), (EVALUATOR,), (EVALUATOR,)),
    Contract(evaluation_pb2.ShardScored, _topic("shard-scored"), (EVALUATOR,), (EVALUATOR,)),
    Contract(evaluation_pb2.EvalCompleted, _topic("eval-completed"), (EVALUATOR,), (CONTROLLER, GATEWAY)),
    Contract(
        evaluation_pb2.EvalFailed,
        _topic("eval-failed"),
        (EVALUATOR,),
        (DIAGNOSTICIAN, GATEWAY),
        is_public=True,
    ),
    Contract(
        diagnosis_pb2.DiagnosisReady,
        _topic("diagnosis-ready"),
        (DIAGNOSTICIAN,),
        (CONTROLLER, GATEWAY),
        is_public=True,
    ),
    Contract(loop_pb2.ApprovalRequested, _topic("approval-requested"), (CONTROLLER,), (GATEWAY,)),
    Contract(loop_pb2.ApprovalGiven, _topic("approval-given"), (GATEWAY,), (CONTROLLER, GATEWAY)),
    Contract(
        intervention_pb2.InterventionPlanned,
        _topic("intervention-planned"),
        (CONTROLLER,),
        (DATA_GENERATOR, TRAINER, EVALUATOR, GATEWAY),
    ),
    Contract(
        intervention_pb2.DataBatchReady,
        _topic("data-batch-ready"),
        (DATA_GENERATOR, CONTROLLER),
        (TRAINER, CONTROLLER, GATEWAY),
        is_public=True,
    ),
    Contract(checkpoint_pb2.CheckpointPromoted, _topic("checkpoint-promoted"), (CONTROLLER,), (GATEWAY,)),
    Contract(checkpoint_pb2.CheckpointRejected, _topic("checkpoint-rejected"), (CONTROLLER,), (GATEWAY,)),
    Contract(checkpoint_pb2.CheckpointRolledBack, _topic("checkpoint-rolled-back"), (CONTROLLER,), (GATEWAY,)),
    Contract(loop_pb2.BudgetExceeded, _topic("budget-exceeded"), (CONTROLLER,), (GATEWAY,)),
    Contract(loop_pb2.LoopFinished, _topic("loop-finished"), (CONTROLLER,), (GATEWAY,)),
    Contract(
        operations_pb2.DeadLetter,
        _topic("dead-letter"),
        (EVALUATOR, DIAGNOSTICIAN, DATA_GENERATOR, TRAINER, CONTROLLER),
        (GATEWAY, CONTROLLER),
    ),
)

_BY_TYPE = {contract.event_type: contract for contract in CONTRACTS}
_BY_MESSAGE = {contract.message: contract for contract in CONTRACTS}
DEAD_LETTER_TOPIC = _topic("dead-letter")


def retry_topic(group: str) -> str:
    """The topic on which a consumer group's delayed retries wait."""
    return _topic(f"retry.{group}")


def all_topics() -> tuple[str, ...]:
    """Every topic that a deployment needs, the retry topics included."""
    return (*(contract.topic for contract in CONTRACTS), *(retry_topic(service) for service in SERVICES))


def work_topics() -> frozenset[str]:
    """Topics whose events are work and of no use once done: shards, their results, retries. The others are facts."""
    shards = {_BY_MESSAGE[evaluation_pb2.EvaluationShard].topic, _BY_MESSAGE[evaluation_pb2.ShardScored].topic}
    return frozenset(shards | {retry_topic(service) for service in SERVICES})


def contract_of(message: type[Message]) -> Contract:
    """The row of a message class. Raises KeyError for a message that is no event."""
    return _BY_MESSAGE[message]


def contract_of_type(event_type: str) -> Contract:
    """The row of a CloudEvents type. Raises InvalidEvent for an unknown one."""
    try:
        return _BY_TYPE[event_type]
    except KeyError:
        raise InvalidEvent(f"unknown event type {event_type!r}; known are {', '.join(sorted(_BY_TYPE))}") from None


def consumed_by(service: str) -> tuple[str, ...]:
    """Topics that a service reads, its retry topic included."""
    return (*(c.topic for c in CONTRACTS if service in c.consumers), retry_topic(service))


def decode(event_type: str, value: bytes) -> Message:
    """The message in an event's value. Raises InvalidEvent where the bytes are not that message."""
    message = contract_of_type(event_type).message()
    try:
        message.ParseFromString(value)
    except DecodeError as error:
        raise InvalidEvent(f"{len(value)} bytes are not a {event_type}: {error}") from error
    return message
