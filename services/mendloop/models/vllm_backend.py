"""A checkpoint behind a vLLM server as a language model: token ids go there, token ids and probabilities come back.

Tokenising and detokenising are ours, so that both backends say the same. Knows requests and answers of /v1/completions;
knows neither how the server was started nor how it is started again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from mendloop.core.errors import Permanent, Retryable
from mendloop.core.records import StopReason
from mendloop.models.encoding import (
    Encoded,
    Ids,
    Tokenizer,
    answer_of,
    decoded,
    encode_examples,
    encode_prompts,
    encode_texts,
)
from mendloop.models.generation import Generation, Sampling, TokenLogprobs
from mendloop.models.likelihood import Likelihoods, Scored, scored_completions, scored_continuations, with_eos
from mendloop.models.pace import Pace, ask_all
from mendloop.models.vllm_client import VllmClient

T = TypeVar("T")
MOST_IDS = 128
"""Most ids whose log-probability vLLM gives for one position (its MAX_LOGPROB_TOKEN_IDS)."""
NO_PROBABILITY = -9999.0
"""What vLLM writes for minus infinity, and for anything below itself."""
FRUITLESS_ROUNDS = 2
_PLAIN = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
}
"""Said in every request: what is left out is taken from the checkpoint's generation_config where a server reads it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A checkpoint as it is served. context is the checkpoint's own; length_limit is what the server takes."""

    name: str
    checkpoint: str
    tokenizer: Tokenizer
    eos_ids: frozenset[int]
    context: float
    length_limit: float


class Connection(Protocol):
    """A server that may die and come back."""

    def client(self) -> VllmClient:
        """Where it is now."""

    def revive(self, reason: str) -> None:
        """Bring it back, with the same checkpoint. Raises Permanent or Retryable where that is not possible."""


class VllmModel:
    """A SamplingModel over a connection."""

    def __init__(self, served: Served, *, connection: Connection, pace: Pace, uses_gpu: bool) -> None:
        self.served, self._connection, self.pace = served, connection, pace
        self.uses_gpu = uses_gpu
        self.answered_count = 0
        """Requests that were answered so far."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        """Greedy outputs, in the order of the prompts; an output is cut before the first stop string.

        Counts and reasons are those of the transformers backend. Raises Permanent for a prompt that leaves no room in
        the context and for an answer that cannot be right, Retryable where the server does not come back.
        """
        return self._outputs(prompts, draws=[{} for _ in prompts], max_new_tokens=max_new_tokens, stop=stop)

    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """One draw per prompt, by the server's own generator with the prompt's seed."""
        if len(sampling.seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts have {len(sampling.seeds)} seeds; each needs one")
        draws = [
            {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed} for seed in sampling.seeds
        ]
        return self._outputs(prompts, draws=draws, max_new_tokens=max_new_tokens, stop=stop)

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """Natural-log probabilities of each completion's tokens and of the EOS that should follow, teacher-forced.

        Windows and errors are those of the transformers backend.
        """
        return self._likelihoods(scored_completions, prompts, self._encoded(prompts, completions))

    def continuation_logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """logprobs without the EOS; one request scores all completions that are alike but for their last token."""
        return self._likelihoods(scored_continuations, prompts, self._encoded(prompts, completions))

    def text_logprobs(self, texts: Sequence[str]) -> list[TokenLogprobs]:
        """continuation_logprobs of whole texts, special tokens of the tokenizer's own included."""
        examples = encode_texts(self.served.tokenizer, texts)
        return self._likelihoods(scored_continuations, [""] * len(texts), examples)

    def token_logprobs(self, examples: Sequence[Encoded]) -> list[TokenLogprobs]:
        """logprobs of examples that are token ids already and fit the context."""
        return [with_eos(scored) for scored in self._scores(examples)]

    def _encoded(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Encoded]:
        return encode_examples(self.served.tokenizer, prompts, completions)

    def _likelihoods(self, of: Likelihoods, prompts: Sequence[str], examples: Sequence[Encoded]) -> list[TokenLogprobs]:
        served = self.served
        return of(examples, prompts, context=served.context, name=served.checkpoint, score=self._scores)

    def _scores(self, examples: Sequence[Encoded]) -> list[Scored]:
        """A Scorer. Examples that are alike but for their last id are one request."""
        alike: dict[tuple[Ids, int], list[int]] = {}
        for at, example in enumerate(examples):
            alike.setdefault((example.input_ids[:-1], example.prompt_length), []).append(at)
        asked = [
            (head, length, members[start : start + MOST_IDS])
            for (head, length), members in alike.items()
            for start in range(0, len(members), MOST_IDS)
        ]
        jobs = [
            partial(self._score, head, length, [examples[at].input_ids[-1] for at in members])
            for head, length, members in asked
        ]
        found: dict[int, Scored] = {}
        for (_, _, members), scored in zip(asked, self._all(jobs), strict=True):
            found |= zip(members, scored, strict=True)
        return [found[at] for at in range(len(examples))]

    def _outputs(
        self, prompts: Sequence[str], *, draws: Sequence[Mapping[str, Any]], max_new_tokens: int, stop: Sequence[str]
    ) -> list[Generation]:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
        started = time.monotonic()
        marks = [text for text in stop if text]
        jobs = []
        for text, ids, draw in zip(prompts, encode_prompts(self.served.tokenizer, prompts), draws, strict=True):
            limit = self._room(ids, wanted=max_new_tokens)
            jobs.append(partial(self._continue, text, ids, limit=limit, stop=marks, draw=draw, started=started))
        return self._all(jobs)

    def _continue(
        self, prompt: str, ids: Ids, *, limit: int, stop: list[str], draw: Mapping[str, Any], started: float
    ) -> Generation:
        said: list[int] = []
        reason: StopReason | None = None
        while reason is None:
            choice = self._choice(
                {
                    **_PLAIN,
                    **draw,
                    "prompt": [*ids, *said],
                    "max_tokens": limit - len(said),
                    "stop": stop,
                    "stop_token_ids": sorted(self.served.eos_ids),
                    "skip_special_tokens": False,
                    "spaces_between_special_tokens": False,
                }
            )
            said = self._cut_ids([*said, *self._token_ids(choice)], stop=stop)
            reason = self._reason(choice, said, limit=limit, stop=stop)
        lead, text = answer_of(self._text(said), prompt_text=prompt, stop=stop)
        return Generation(text, len(ids), len(said), reason, time.monotonic() - started, lead)

    def _token_ids(self, choice: Mapping[str, Any]) -> list[int]:
        said = choice.get("token_ids")
        if not said:
            raise Permanent(
                f"{self._where} answers without token ids ({choice.get('finish_reason')!r}, text"
                f" {str(choice.get('text'))[:80]!r}); it must be a vLLM that knows return_token_ids"
            )
        return list(said)

    def _cut_ids(self, said: list[int], *, stop: list[str]) -> list[int]:
        """Up to the first token with which a stop string is complete."""
        while len(said) > 1 and stop and self._has_stop(said[:-1], stop):
            said = said[:-1]
        return said

    def _reason(self, choice: Mapping[str, Any], said: list[int], *, limit: int, stop: list[str]) -> StopReason | None:
        """None where the output must go on: to the server a stop string may begin in the prompt, to us it may not."""
        if said[-1] in self.served.eos_ids:
            return "eos"
        if self._has_stop(said, stop):
            return "stop_string"
        if len(said) >= limit:
            return "length"
        if choice.get("stop_reason") in stop:
            return None
        raise Permanent(
            f"{self._where} ended an output after {len(said)} of {limit} tokens ({choice.get('finish_reason')!r},"
            f" {choice.get('stop_reason')!r}): its own limits or stop tokens count; start it with"
            " --generation-config vllm"
        )

    def _has_stop(self, said: list[int], stop: list[str]) -> bool:
        text = self._text(said) if stop else ""
        return any(mark in text for mark in stop)

    def _text(self, said: list[int]) -> str:
        return decoded(self.served.tokenizer, said, eos_ids=self.served.eos_ids)

    def _score(self, head: Ids, prompt_length: int, lasts: Sequence[int]) -> list[Scored]:
        """The scores of head behind its prompt and of each last id behind head, which may fill the context."""
        distinct = list(dict.fromkeys(lasts))
        choice = self._choice(
            {
                **_PLAIN,
                "prompt": list(head),
                "max_tokens": 1,
                "prompt_logprobs": 0,
                "logprobs": len(distinct),
                "logprob_token_ids": distinct,
                "return_tokens_as_token_ids": True,
            }
        )
        try:
            table = choice["prompt_logprobs"][prompt_length:]
            found = [row[str(token)] for row, token in zip(table, head[prompt_length:], strict=True)]
            read = [row["logprob"] for row in found]
            ends = {last: choice["logprobs"]["top_logprobs"][0][f"token_id:{last}"] for last in distinct}
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise Permanent(
                f"{self._where} does not give the log-probability of every token that was asked for ({error!r});"
                " it must be a vLLM that knows prompt_logprobs and logprob_token_ids"
            ) from error
        if any(
            value is None or not math.isfinite(value) or value <= NO_PROBABILITY for value in (*read, *ends.values())
        ):
            raise Permanent(
                f"the checkpoint {self.served.checkpoint} computes NaN or infinity at {self._where}: its weights are"
                " broken, or its numeric type is too narrow"
            )
        said = self._token_ids(choice)[0]  # greedy, so the most probable
        greedy = [row.get("rank") == 1 for row in found]
        return [Scored((*read, ends[last]), (*greedy, last == said)) for last in lasts]

    def _choice(self, body: dict[str, Any]) -> Mapping[str, Any]:
        body |= {"model": self.served.name, "return_token_ids": True}
        answer = self._connection.client().post("/v1/completions", body)
        self.answered_count += 1  # between threads it may lose one: it is for watching, not for counting
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not choices or len(choices) != 1:
            raise Permanent(f"{self._where} answers with {len(choices or [])} outputs to one prompt")
        choice: Mapping[str, Any] = choices[0]
        echoed = choice.get("prompt_token_ids")
        if echoed is not None and echoed != body["prompt"]:
            raise Permanent(f"{self._where} changed a prompt of {len(body['prompt'])} tokens to {len(echoed)}")
        return choice

    def _all(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Every answer, in order. A server that dies is brought back and asked again for what is missing."""
        answers: dict[int, T] = {}
        fruitless = 0
        while len(answers) < len(jobs):
            missing = [at for at in range(len(jobs)) if at not in answers]
            asked = ask_all(missing, lambda at: jobs[at](), pace=self.pace)
            answers |= asked.answers
            fruitless = 0 if asked.answers else fruitless + 1
            if asked.fault is None:
                continue
            if fruitless > FRUITLESS_ROUNDS:
                raise Retryable(
                    f"{self._where} fails again and again on {len(jobs) - len(answers)} of {len(jobs)} requests:"
                    f" {asked.fault}"
                )
            self._connection.revive(str(asked.fault))
        return [answers[at] for at in range(len(jobs))]

    def _room(self, ids: Ids, *, wanted: int) -> int:
        room = self.served.context - len(ids)
        if room < 1:
            raise Permanent(
                f"a prompt of {len(ids)} tokens leaves no room in the context of {self.served.checkpoint}"
                f" ({self.served.context:.0f} tokens)"
            )
        limit = int(min(wanted, room))
        if len(ids) + limit > self.served.length_limit:
            raise Permanent(
                f"{self._where} takes {self.served.length_limit:.0f} tokens, prompt and output may have"
                f" {len(ids) + limit}; start it with a larger --max-model-len or lower suite.max_new_tokens"
            )
        return limit

    @property
    def _where(self) -> str:
        return f"the server at {self._connection.client().url}"
