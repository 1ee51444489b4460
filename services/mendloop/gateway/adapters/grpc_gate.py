"""The gate before every gRPC method: the same entrance as REST's, with the token in the metadata.

A method that SCOPES does not name needs admin; only health is open. Changes are in the audit log before they are
answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc

from mendloop.gateway.adapters import streams
from mendloop.gateway.adapters.audit_store import Deed
from mendloop.gateway.adapters.entrance import Entrance, StillValid
from mendloop.gateway.adapters.grpc_errors import Context, abort, code_of
from mendloop.gateway.domain.access import Principal, Scope
from mendloop.gateway.domain.refusals import Busy, NotSignedIn, Refusal

log = logging.getLogger(__name__)
SERVICE = "/mendloop.v1.LoopService/"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = ("/grpc.reflection.v1alpha.ServerReflection/", "/grpc.reflection.v1.ServerReflection/")
SCOPES = {
    "GetRun": Scope.READ,
    "ListRuns": Scope.READ,
    "StreamEvents": Scope.READ,
    "StartRun": Scope.RUN,
    "CancelRun": Scope.RUN,
    "PauseRun": Scope.RUN,
    "ResumeRun": Scope.RUN,
    "RollBackRun": Scope.APPROVE,
    "ApproveIntervention": Scope.APPROVE,
}
_CALLER: ContextVar[Caller] = ContextVar("caller")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and whether their credential is still good."""

    principal: Principal
    is_still_valid: StillValid


def caller() -> Caller:
    """Who makes the call under way; LookupError where no gate stands before it."""
    return _CALLER.get()


def scope_of(method: str) -> Scope | None:
    """What a full method name needs; None is open."""
    if method.startswith(HEALTH):
        return None
    if method.startswith(REFLECTION):
        return Scope.READ
    return SCOPES.get(method.removeprefix(SERVICE), Scope.ADMIN)


def address_of(peer: str) -> str:
    """The host of a peer: ipv4:1.2.3.4:5 or ipv6:%5B::1%5D:5."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


class GrpcGate(grpc.aio.ServerInterceptor):
    """Asks the entrance about each call."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """The method's handler, behind the gate."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        needed = scope_of(method)
        if handler is None or needed is None:
            return handler
        visit = _Visit(self._entrance, method, needed)
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(visit.unary(handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(visit.stream(handler.unary_stream), **codecs)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(visit.stream(handler.stream_stream), **codecs)
        return grpc.stream_unary_rpc_method_handler(visit.unary(handler.stream_unary), **codecs)


class _Visit:
    """Calls of one method."""

    def __init__(self, entrance: Entrance, method: str, needed: Scope) -> None:
        self._entrance, self._method, self._needed = entrance, method, needed

    def unary(self, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def guarded(request: Any, context: Context) -> Any:
            principal = None
            try:
                principal = await self._admit(context)
                answer = await behaviour(request, context)
                if not await self._record(principal, request, answer, "OK", context):
                    raise Busy("what was asked is done, but it could not be written into the audit log; ask again")
                return answer
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                if principal is not None and isinstance(error, Refusal) and not isinstance(error, Busy):
                    await self._record(principal, request, None, code_of(error).name, context)
                await abort(error, context=context, method=self._method)

        return guarded

    def stream(
        self, behaviour: Callable[[Any, Context], AsyncGenerator[Any]]
    ) -> Callable[[Any, Context], Awaitable[None]]:
        async def guarded(request: Any, context: Context) -> None:
            try:
                await self._admit(context)
                async with aclosing(behaviour(request, context)) as answers:
                    async for answer in answers:
                        await _write(context, answer, method=self._method)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await abort(error, context=context, method=self._method)

        return guarded

    async def _admit(self, context: Context) -> Principal:
        address = address_of(context.peer())
        self._entrance.count_address(address)
        principal = await self._who(context, address=address)
        self._entrance.count(principal)
        principal.check(self._needed)

        async def is_still_valid() -> bool:
            try:
                return await self._who(context, address=address) is not None
            except Refusal:
                return False

        _CALLER.set(Caller(principal, is_still_valid))
        return principal

    async def _who(self, context: Context, *, address: str) -> Principal:
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        kind, _, token = str(shown).partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise NotSignedIn("send `authorization: Bearer TOKEN` in the metadata")
        return await self._entrance.bearer(token.strip(), address=address)

    async def _record(self, principal: Principal, request: Any, answer: Any, result: str, context: Context) -> bool:
        if self._needed is Scope.READ:
            return True
        run = getattr(answer, "run", None)
        return await self._entrance.record(
            Deed.of(
                principal,
                self._method.removeprefix("/mendloop.v1."),
                result,
                run_id=run.run_id if run is not None else getattr(request, "run_id", ""),
                reason=getattr(request, "reason", ""),
                address=address_of(context.peer()),
            )
        )


async def _write(context: Context, answer: Any, *, method: str) -> None:
    """Waits while the reader's window is full: nothing is kept for it here but this one answer. Raises Busy at last."""
    try:
        async with asyncio.timeout(streams.STALL_S):
            await context.write(answer)
    except TimeoutError:
        log.warning("a stream took nothing and was given up", extra={"method": method, "stall_s": streams.STALL_S})
        raise Busy(f"nothing was taken for {streams.STALL_S:g} s; resume from the last cursor") from None
