"""HTTP to a vLLM server: one connection a thread, answers as JSON, faults by what to do about them.

Knows HTTP; knows neither tokens nor processes.
"""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlsplit

from mendloop.core.errors import Permanent, Retryable

TIMEOUT_S = 600.0
_BUSY = (408, 429, 503)


class Busy(Retryable):
    """The server asks for less: 429, 503 or a request that timed out there."""


class Gone(Retryable):
    """The server does not answer, or says that it is broken."""


class VllmClient:
    """Requests to one server. Safe to share between threads."""

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Permanent(f"{url!r} is no address of a vLLM server; give http://HOST:PORT")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._parts = urlsplit(self.url)
        self.api_key = api_key
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._own = threading.local()

    def get(self, path: str) -> Any:
        """The answer to GET; None where it is empty. Raises Busy, Gone or Permanent."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any = None) -> Any:
        """The answer to POST; None where it is empty. Raises Busy, Gone or Permanent."""
        return self._ask("POST", path, None if body is None else json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        try:
            status, raw = self._exchange(method, path, body)
        except TimeoutError as error:
            raise Busy(f"{self.url}{path} did not answer within {self._timeout_s:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Gone(f"{self.url}{path}: {type(error).__name__}: {error}") from error
        if status in _BUSY:
            raise Busy(f"{self.url}{path} answers {status}: {_words(raw)}")
        if status >= 500:
            raise Gone(f"{self.url}{path} answers {status}: {_words(raw)}")
        if status >= 400:
            raise Permanent(f"{self.url}{path} answers {status}: {_words(raw)}")
        try:
            return json.loads(raw) if raw else None
        except json.JSONDecodeError as error:
            raise Permanent(f"{self.url}{path} answers no JSON: {_words(raw)}; is it a vLLM server?") from error

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        is_reused = getattr(self._own, "connection", None) is not None
        try:
            return self._send(method, path, body)
        except (ConnectionError, http.client.RemoteDisconnected):
            self._forget()
            if not is_reused:
                raise
            return self._send(method, path, body)  # an idle connection that the server closed
        except BaseException:
            self._forget()
            raise

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout_s)
            self._own.connection = connection
        connection.request(method, self._parts.path + path, body=body, headers=self._headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def _forget(self) -> None:
        connection = getattr(self._own, "connection", None)
        self._own.connection = None
        if connection is not None:
            connection.close()


def _words(raw: bytes) -> str:
    text = raw.decode(errors="replace")
    try:
        said = json.loads(text)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        said = text
    return str(said)[:500] or "nothing"
