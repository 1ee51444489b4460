"""The gate before every route (plain ASGI): nobody passes without a scope, save to what a rule calls open.

A request shows `Authorization: Bearer`, or a browser's cookie; with a cookie a change also needs `X-CSRF-Token`. What
was changed, or was refused to somebody known, is in the audit log before it is answered.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mendloop.gateway.adapters.audit_store import Deed
from mendloop.gateway.adapters.entrance import Entrance
from mendloop.gateway.adapters.problems import problem, problem_of
from mendloop.gateway.adapters.session_store import csrf_token
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.access_rules import READS, Rule, rule_for
from mendloop.gateway.domain.rates import Allowance
from mendloop.gateway.domain.refusals import NotAllowed, NotSignedIn, Refusal

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
COOKIE, TLS_COOKIE = "mendloop_session", "__Host-mendloop_session"
_FOREIGN_SITES = ("cross-site", "same-site")
_MAX_REASON_BODY = 64 * 1024


def principal_of(request: Request) -> Principal:
    """Who asks, for a route; a route that no gate stands before fails."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


Asker = Annotated[Principal, Depends(principal_of)]
"""A route's parameter: who asks."""


def address_of(connection: HTTPConnection) -> str:
    """Where a request comes from."""
    return connection.client.host if connection.client else ""


def cookie_of(connection: HTTPConnection) -> str:
    """The session cookie; empty where there is none."""
    return connection.cookies.get(TLS_COOKIE if connection.url.scheme == "https" else COOKIE, "")


class Gate:
    """Asks the entrance about each request."""

    def __init__(self, app: ASGIApp, *, entrance: Entrance) -> None:
        self._app, self._entrance = app, entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in PROBES):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        connection = HTTPConnection(scope)
        try:
            self._entrance.count_address(address_of(connection))
            rule = rule_for(scope["method"], scope["path"])
            if rule.scope is None:
                _refuse_foreign(scope, connection.headers)
                await self._app(scope, receive, send)
                return
            principal = await self._who(connection, scope)
        except Refusal as refusal:
            await problem_of(refusal)(scope, receive, send)
            return
        await self._admit(principal, rule, scope, receive, send)

    async def _admit(self, principal: Principal, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        try:
            send = _with_rate(send, self._entrance.count(principal), self._entrance)
            if scope["method"] not in READS:
                visit = _Visit(self._entrance, principal, connection)
                receive, send = visit.listen(receive), visit.answer(scope, receive, send)
            await self._entrance.check(principal, rule, path=scope["path"])
        except Refusal as refusal:
            await problem_of(refusal)(scope, receive, send)
            return

        async def is_still_valid() -> bool:
            try:
                return await self._who(connection, scope, is_new=False) is not None
            except Refusal:
                return False

        scope.setdefault("state", {}).update(principal=principal, is_still_valid=is_still_valid)
        await self._app(scope, receive, send)

    async def _who(self, connection: HTTPConnection, scope: Scope, *, is_new: bool = True) -> Principal:
        address, shown = address_of(connection), connection.headers.get("authorization")
        if shown is not None:
            kind, _, token = shown.partition(" ")
            if kind.lower() != "bearer" or not token.strip():
                raise NotSignedIn("the Authorization header is not `Bearer TOKEN`")
            return await self._entrance.bearer(token.strip(), address=address)
        cookie = cookie_of(connection)
        if not cookie:
            raise NotSignedIn("nobody is signed in; send `Authorization: Bearer TOKEN`, or sign in with the page")
        if is_new and scope["method"] not in READS:
            _refuse_foreign(scope, connection.headers)
            if not hmac.compare_digest(
                connection.headers.get("x-csrf-token", "").encode(), csrf_token(cookie).encode()
            ):
                raise NotAllowed("a change with a cookie needs X-CSRF-Token, which GET /v1/session gives")
        return await self._entrance.session(cookie, address=address)


class _Visit:
    """A change under way: its reason is read from the body as it passes, its result from the answer."""

    def __init__(self, entrance: Entrance, principal: Principal, connection: HTTPConnection) -> None:
        self._entrance, self._principal, self._connection = entrance, principal, connection
        self._body = bytearray()

    def listen(self, receive: Receive) -> Receive:
        async def listening() -> Message:
            message = await receive()
            if message["type"] == "http.request" and len(self._body) <= _MAX_REASON_BODY:
                self._body += message.get("body", b"")
            return message

        return listening

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Send:
        is_lost = False

        async def answering(message: Message) -> None:
            nonlocal is_lost
            if message["type"] == "http.response.start" and not await self._record(scope, message):
                is_lost = True
                lost = "what was asked is done, but it could not be written into the audit log; ask again"
                await problem(503, lost, headers={"Retry-After": "5"})(scope, receive, send)
            if not is_lost:
                await send(message)

        return answering

    async def _record(self, scope: Scope, message: Message) -> bool:
        place = Headers(raw=message["headers"]).get("location", "")
        return await self._entrance.record(
            Deed.of(
                self._principal,
                f"{scope['method']} {scope['path']}",
                str(message["status"]),
                run_id=_run_in(place) or _run_in(scope["path"]),
                reason=_reason(bytes(self._body), self._connection.headers),
                address=address_of(self._connection),
            )
        )


def _run_in(path: str) -> str:
    parts = path.split("/")
    return parts[3] if len(parts) > 3 and parts[1:3] == ["v1", "runs"] else ""


def _reason(body: bytes, headers: Mapping[str, str]) -> str:
    if len(body) > _MAX_REASON_BODY or "json" not in headers.get("content-type", "application/json"):
        return ""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    reason = document.get("reason") if isinstance(document, dict) else ""
    return reason if isinstance(reason, str) else ""


def _refuse_foreign(scope: Scope, headers: Mapping[str, str]) -> None:
    """A page of another site must not sign somebody in, nor change anything with their cookie."""
    if scope["method"] not in READS and headers.get("sec-fetch-site") in _FOREIGN_SITES:
        raise NotAllowed("a page of another site may not do this")


def _with_rate(send: Send, allowance: Allowance, entrance: Entrance) -> Send:
    """The headers of draft-ietf-httpapi-ratelimit-headers: the policy, and what is left of it."""
    rate = entrance.rate
    window_s = max(1, math.ceil(rate.burst / rate.per_s))
    headers = [
        (b"ratelimit-policy", f'"credential";q={rate.burst};w={window_s}'.encode()),
        (b"ratelimit", f'"credential";r={allowance.remaining};t={math.ceil(allowance.wait_s)}'.encode()),
    ]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return sending
