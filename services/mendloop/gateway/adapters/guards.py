"""Guards around the app (plain ASGI): allowed hosts, size and time of a body, and headers that every answer gets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mendloop.gateway.adapters.problems import problem

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Guards:
    """Refuses foreign Host headers (DNS rebinding), bodies that are too large (413) or too slow (408)."""

    def __init__(
        self, app: ASGIApp, *, allowed_hosts: Sequence[str], max_body_bytes: int, body_timeout_s: float
    ) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in allowed_hosts)
        self._max_body_bytes, self._body_timeout_s = max_body_bytes, body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = _name(headers.get(b"host", b"").decode("latin-1"))
        if self._hosts and host not in self._hosts and scope["path"] not in _PROBES:
            await problem(421, f"this gateway does not answer for the host {host[:100]!r}")(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, _with_headers(send))
            return
        await self._with_body(scope, receive, _with_headers(send), declared=headers.get(b"content-length", b"0"))

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, *, declared: bytes) -> None:
        limit = self._max_body_bytes
        if not declared.isdigit() or int(declared) > limit:
            await problem(413, f"the body may have at most {limit} bytes")(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > limit:
                        await problem(413, f"the body may have at most {limit} bytes")(scope, receive, send)
                        return
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            late = f"the body did not arrive within {self._body_timeout_s:g} s"
            await problem(408, late, headers={"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _replayed(bytes(body), receive), send)


def _name(host: str) -> str:
    """The host without its port: [::1]:80 gives [::1]."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    async def more(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {
                name.lower() for name, _ in message["headers"]
            }  # the page has a content security policy of its own
            missing = [header for header in _HEADERS if header[0] not in given]
            message = {**message, "headers": [*message["headers"], *missing]}
        await send(message)

    return more
