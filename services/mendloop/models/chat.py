"""Questions to a language model behind an OpenAI-compatible chat endpoint. Knows HTTP; knows no question."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any

from mendloop.core.errors import Permanent, Retryable

FIRST_PAUSE_S = 0.5
MOST_BYTES = 8_000_000
"""Of one answer; whoever sends more is no chat endpoint."""
_CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. token_count is what the server says that it generated; None where it does not say."""

    text: str
    token_count: int | None = None
    is_cut: bool = False
    """Whether max_tokens ended it."""


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """POST {url}/chat/completions. role names it in messages, e.g. "judge".

    attempts: how often a question is put while the endpoint is away, busy or broken, with pauses of .5, 1, 2 ... s.
    """

    url: str
    model: str
    role: str
    api_key: str = field(default="", repr=False)
    temperature: float = 0.0
    max_tokens: int = 8
    timeout_s: float = 60.0
    concurrency: int = 8
    attempts: int = 1
    pause: Callable[[float], None] = time.sleep
    on_result: Callable[[str], None] = lambda result: None
    """Told of each try: ok, unavailable (it may pass) or refused (it will not)."""

    def answers(self, prompts: Sequence[str], *, seed: int = 0) -> list[str]:
        """One answer a prompt, in order. Raises Retryable where the endpoint is away, Permanent where it refuses."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(lambda prompt: self.say(prompt, seed=seed).text, prompts))

    def say(self, prompt: str, *, seed: int = 0) -> Said:
        """The answer to one prompt, with what it cost; raises as answers."""
        for attempt in range(self.attempts - 1):
            try:
                return self._ask(prompt, seed=seed)
            except Retryable:
                self.pause(FIRST_PAUSE_S * 2**attempt)
        return self._ask(prompt, seed=seed)

    def _ask(self, prompt: str, *, seed: int) -> Said:
        try:
            said = self._posted(prompt, seed=seed)
        except (Retryable, Permanent) as error:
            self.on_result("unavailable" if isinstance(error, Retryable) else "refused")
            raise
        self.on_result("ok")
        return said

    def _posted(self, prompt: str, *, seed: int) -> Said:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": seed,
        }
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        place, name = f"{self.url.rstrip('/')}/chat/completions", f"the {self.role} at {self.url}"
        deadline = time.monotonic() + self.timeout_s
        try:
            request = urllib.request.Request(place, json.dumps(body).encode(), headers=headers)
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return _said(json.loads(_body(response, deadline=deadline)))
        except urllib.error.HTTPError as error:
            kind = Retryable if error.code == 429 or error.code >= 500 else Permanent
            raise kind(f"{name} answered {error.code}: {error.read(200)!r}") from error
        except (OSError, HTTPException) as error:
            raise Retryable(f"{name} does not answer: {error}") from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise Permanent(f"{name} gave no chat completion: {error!r}; check the url") from error


def _body(response: HTTPResponse, *, deadline: float) -> bytes:
    """All bytes, by the deadline: the socket's own timeout only bounds the wait for the next ones."""
    parts: list[bytes] = []
    while part := response.read1(_CHUNK_BYTES):
        parts.append(part)
        if sum(map(len, parts)) > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("its answer was not complete in time")
    return b"".join(parts)


def _said(document: Any) -> Said:
    choice = document["choices"][0]
    count = (document.get("usage") or {}).get("completion_tokens")
    is_cut = choice.get("finish_reason") == "length"
    return Said(str(choice["message"]["content"] or ""), count if isinstance(count, int) else None, is_cut)
