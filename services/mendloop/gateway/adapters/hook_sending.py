"""Sends a webhook: to the address that was checked and no other, without redirects, proxies or a body that is kept.

The name is resolved here and the connection goes to the resolved address, so that a name server that changes its answer
between the check and the connection gains nothing; TLS still verifies the name. A Sender belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore

from mendloop.gateway.domain.addresses import Network, may_reach
from mendloop.gateway.domain.hooks import MAX_DETAIL_LENGTH, Answer

RESOLVE_TIMEOUT_S = 5.0
RESOLVERS = 32
DRAIN_BYTES, DRAIN_S = 64 * 1024, 1.0
KEEP_CONNECTION_S = 60.0
NOT_ALLOWED = "the host's address is not public; MENDLOOP_WEBHOOK_ALLOWED_NETWORKS names networks that are allowed"
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressNotAllowed(Exception):
    """The host has an address that webhooks may not reach. The message names no address: it may be an inner one."""


class Resolver:
    """Resolves names in threads of its own: a name server that hangs holds up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="webhook-names")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """All addresses of a name. Raises OSError where it has none, TimeoutError where no answer comes."""
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        )
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await asked
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Gate:
    """Resolves a host and lets it through only where every address of it may be reached."""

    def __init__(self, allowed: Sequence[Network] = (), *, resolve: Resolve | None = None) -> None:
        self._allowed, self._resolve = tuple(allowed), resolve or Resolver()

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses to connect to. Raises AddressNotAllowed, OSError or TimeoutError."""
        found = await self._resolve(host, port)
        if not found:
            raise OSError(f"the host {host!r} has no address")
        if not all(may_reach(address, allowed=self._allowed) for address in found):
            raise AddressNotAllowed(NOT_ALLOWED)
        return found


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that the gate let through."""

    def __init__(self, gate: Gate) -> None:
        self._gate, self._inner = gate, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that answers."""
        error: Exception = OSError("no address")
        for address in await self._gate.addresses(host, port):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Sender:
    """Posts bodies, each within timeout_s from the name's resolution to the status."""

    def __init__(self, gate: Gate, *, timeout_s: float, connection_limit: int, tls: ssl.SSLContext) -> None:
        self._timeout_s = timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=connection_limit,
            max_keepalive_connections=connection_limit,
            keepalive_expiry=KEEP_CONNECTION_S,
            network_backend=_CheckedNetwork(gate),
        )

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What came of one try; never raises for what the receiver or the network does."""
        started = time.monotonic()
        status, detail, retry_after_s = 0, "", None
        try:
            async with asyncio.timeout(self._timeout_s):
                status, retry_after_s = await self._exchange(url, body=body, headers=headers)
            if status >= 300:
                moved = "; redirects are not followed" if status < 400 else ""
                detail = f"status {status}{moved}"
        except TimeoutError:
            detail = f"no answer within {self._timeout_s:g} s"
        except AddressNotAllowed as error:
            detail = str(error)
        except socket.gaierror:
            detail = "the host's name cannot be resolved"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            detail = f"{type(error).__name__}: {error}"
        return Answer(status, time.monotonic() - started, detail[:MAX_DETAIL_LENGTH], retry_after_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _exchange(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None]:
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        lines += [(b"Host", _host_line(url)), (b"Content-Length", str(len(body)).encode())]
        async with self._pool.stream("POST", url, headers=lines, content=body) as response:
            said = {name.lower(): value for name, value in response.headers}
            with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
                async with asyncio.timeout(DRAIN_S):
                    await _drain(response)
            return response.status, _retry_after_s(said.get(b"retry-after", b""))


async def _drain(response: httpcore.Response) -> None:
    """Read a short body, so that the connection can serve again; what is longer closes it."""
    byte_count = 0
    async for chunk in response.aiter_stream():
        byte_count += len(chunk)
        if byte_count > DRAIN_BYTES:
            return


def _host_line(url: str) -> bytes:
    parsed = httpcore.URL(url)
    default = {b"http": 80, b"https": 443}[parsed.scheme]
    host = b"[" + parsed.host + b"]" if b":" in parsed.host else parsed.host
    return host if parsed.port in (None, default) else host + b":" + str(parsed.port).encode()


def _retry_after_s(value: bytes) -> float | None:
    """Seconds that a Retry-After (seconds or a date) asks for; None where it is absent or cannot be read."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
