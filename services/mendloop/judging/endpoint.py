"""A judge behind an OpenAI-compatible chat endpoint. Knows HTTP; knows no criterion."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mendloop.core.errors import Permanent, Retryable
from mendloop.judging.port import Choice, Judgement, Question, judge_prompt, pair_prompt, read_choice, read_judgement


@dataclass(frozen=True, slots=True)
class EndpointJudge:
    """A Judge and PairJudge over POST {url}/chat/completions.

    At temperature 0 the seed changes nothing on most servers; give a temperature where self-consistency is measured.
    """

    url: str
    model: str
    api_key: str = field(default="", repr=False)
    temperature: float = 0.0
    max_tokens: int = 8
    timeout_s: float = 60.0
    concurrency: int = 8

    def judge(self, questions: Sequence[Question], *, seed: int = 0) -> list[Judgement]:
        """One verdict each. Raises Retryable where the endpoint is away, Permanent where it refuses."""
        return [read_judgement(said) for said in self._said([judge_prompt(q) for q in questions], seed=seed)]

    def prefer(self, questions: Sequence[tuple[Question, Question]]) -> list[Choice | None]:
        """One preference each; raises as judge."""
        return [read_choice(said) for said in self._said([pair_prompt(*pair) for pair in questions], seed=0)]

    def _said(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(lambda prompt: self._ask(prompt, seed=seed), prompts))

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
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return str(json.load(response)["choices"][0]["message"]["content"] or "")
        except urllib.error.HTTPError as error:
            kind = Retryable if error.code == 429 or error.code >= 500 else Permanent
            raise kind(f"the judge at {self.url} answered {error.code}: {error.read()[:200]!r}") from error
        except (OSError, TimeoutError) as error:
            raise Retryable(f"the judge at {self.url} does not answer: {error}") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Permanent(f"the judge at {self.url} gave no chat completion: {error!r}; check the url") from error
