"""Where a gateway is and how a client shows who it is: what both clients give httpx."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from mendloop.client.calls import Request
from mendloop.client.errors import Unreachable
from mendloop.client.stream import SILENCE_S
from mendloop.client.talking import Answer
from mendloop.core.settings import client_token

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Connection:
    """A gateway's address, the bearer token (empty: none) and the longest time of one request."""

    url: str
    token: str = field(repr=False)
    timeout_s: float

    @classmethod
    def of(cls, url: str, *, token: str | None, timeout_s: float) -> Connection:
        """The connection. Without a token: MENDLOOP_TOKEN, else the file that a local gateway writes. Raises ValueError
        for an address that is none."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is {url!r}; it must begin with http:// or https://")
        return cls(url.rstrip("/"), client_token() if token is None else token, timeout_s)

    def options(self) -> dict[str, Any]:
        """Arguments of an httpx client."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout_s}

    def unreachable(self, error: Exception) -> Unreachable:
        """What a network error means to the caller."""
        return Unreachable(f"the gateway at {self.url} does not answer: {type(error).__name__} {error}".rstrip())


STREAM_TIMEOUT = httpx.Timeout(30.0, read=SILENCE_S)


def arguments(request: Request) -> dict[str, Any]:
    """Arguments of httpx for a request."""
    return {
        "method": request.method,
        "url": request.path,
        "params": list(request.params),
        "headers": dict(request.headers),
        "content": request.content or None,
    }


def answer_of(response: httpx.Response) -> Answer:
    """The answer of a response whose body was read."""
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)
