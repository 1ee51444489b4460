"""Refusals as gRPC statuses, with google.rpc details where a caller can act on them."""

from __future__ import annotations

import logging
import math
import secrets
from typing import NoReturn, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from mendloop.core.errors import Retryable
from mendloop.gateway.domain.refusals import (
    Busy,
    Conflict,
    Invalid,
    KeyReused,
    Malformed,
    NotAllowed,
    NotSignedIn,
    Refusal,
    TooMany,
    Unknown,
    UnknownRun,
)

log = logging.getLogger(__name__)
DETAILS_KEY = "grpc-status-details-bin"
Context = grpc.aio.ServicerContext[object, object]
_CODES: dict[type[Refusal], grpc.StatusCode] = {
    Malformed: grpc.StatusCode.INVALID_ARGUMENT,
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownRun: grpc.StatusCode.NOT_FOUND,
    Unknown: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    KeyReused: grpc.StatusCode.ALREADY_EXISTS,
    NotSignedIn: grpc.StatusCode.UNAUTHENTICATED,
    NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    TooMany: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Busy: grpc.StatusCode.UNAVAILABLE,
}


def code_of(error: Exception) -> grpc.StatusCode:
    """The status of an error; INTERNAL for what nobody expected."""
    if isinstance(error, Retryable):
        return grpc.StatusCode.UNAVAILABLE
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL) if isinstance(error, Refusal) else grpc.StatusCode.INTERNAL


async def abort(error: Exception, *, context: Context, method: str) -> NoReturn:
    """End a call with an error's status. Nothing of an unexpected error reaches the caller but its number."""
    code, words = code_of(error), str(error)
    if isinstance(error, Retryable):
        log.warning("a call met a store that is away", extra={"reason": words, "method": method})
        words = "a store of this gateway does not answer; try again"
    elif not isinstance(error, Refusal):
        number = secrets.token_hex(4)
        log.error("call failed", exc_info=error, extra={"number": number, "method": method})
        words = f"something went wrong here; the gateway's log has it under {number}"
    detail = _detail(error)
    trailing = ((DETAILS_KEY, _status(code, words, detail)),) if detail is not None else ()
    await context.abort(code, words, trailing)


def _detail(error: Exception) -> Message | None:
    if isinstance(error, TooMany):
        wait = Duration(seconds=max(1, math.ceil(error.wait_s)))
        return cast(Message, error_details_pb2.RetryInfo(retry_delay=wait))
    if isinstance(error, Invalid) and error.faults:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=fault.field, description=fault.message)
            for fault in error.faults
        ]
        return cast(Message, error_details_pb2.BadRequest(field_violations=violations))
    return None


def _status(code: grpc.StatusCode, words: str, detail: Message) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=words)
    status.details.add().Pack(detail)
    return bytes(status.SerializeToString())
