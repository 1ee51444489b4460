"""Questions to a language model behind an OpenAI-compatible chat endpoint. Knows HTTP; knows no question."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mendloop.core.errors import Permanent, Retryable

FIRST_PAUSE_S = 0.5


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

    def answers(self, prompts: Sequence[str], *, seed: int = 0) -> list[str]:
        """One answer a prompt, in order. Raises Retryable where the endpoint is away, Permanent where it refuses."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(lambda prompt: self._patiently(prompt, seed=seed), prompts))

    def _patiently(self, prompt: str, *, seed: int) -> str:
        for attempt in range(self.attempts - 1):
            try:
                return self._ask(prompt, seed=seed)
            except Retryable:
                self.pause(FIRST_PAUSE_S * 2**attempt)
        return self._ask(prompt, seed=seed)

    def _ask(self, prompt: str, *, seed: int) -> str:
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
        request = urllib.request.Request(place, json.dumps(body).encode(), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return str(json.load(response)["choices"][0]["message"]["content"] or "")
        except urllib.error.HTTPError as error:
            kind = Retryable if error.code == 429 or error.code >= 500 else Permanent
            raise kind(f"{name} answered {error.code}: {error.read()[:200]!r}") from error
        except (OSError, TimeoutError) as error:
            raise Retryable(f"{name} does not answer: {error}") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Permanent(f"{name} gave no chat completion: {error!r}; check the url") from error
