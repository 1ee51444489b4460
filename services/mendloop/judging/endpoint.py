"""A judge behind an OpenAI-compatible chat endpoint. Knows the endpoint; knows no criterion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mendloop.judging.port import Choice, Judgement, Question, judge_prompt, pair_prompt, read_choice, read_judgement
from mendloop.models.chat import ChatEndpoint


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
        endpoint = ChatEndpoint(
            self.url,
            self.model,
            role="judge",
            api_key=self.api_key,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            timeout_s=self.timeout_s,
            concurrency=self.concurrency,
        )
        return endpoint.answers(prompts, seed=seed)
