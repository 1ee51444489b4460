"""lm_eval's log-likelihood requests put to a model, and the answers as an output that can be stored and scored again.

An output is JSON: the continuations, the log-likelihood of each (nats) and whether each is greedy. Knows the model's
port and lm_eval's requests; knows neither metrics nor events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mendloop.core.records import Item
from mendloop.models.generation import Generation, LanguageModel, LikelihoodModel, TokenLogprobs

Response = Any
"""What lm_eval's process_results reads of one request: (log-likelihood, is greedy), or the number alone if rolling."""
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class LikelihoodAsker:
    """The Asker of a task. pairs gives an item's (context, continuation) pairs, gold the index of the target's.

    is_rolling: the continuations are whole texts.
    """

    pairs: Callable[[Item], list[Pair]]
    gold: Callable[[Item], int]
    is_rolling: bool = False

    def ask(
        self, items: Sequence[Item], *, model: LanguageModel, prompt: Callable[[str], str]
    ) -> tuple[list[Generation], list[TokenLogprobs]]:
        """One output an item. Its token count is 0 and its stop reason "eos": nothing was generated or cut off.

        The target's log-probabilities go without the EOS, as lm_eval's do.
        """
        built = [self.pairs(item) for item in items]
        asked = [[_encoded(context, text, prompt=prompt) for context, text in pairs] for pairs in built]
        flat = [pair for pairs in asked for pair in pairs]
        answers = iter(self._scored(flat, model=model))
        generations, targets = [], []
        for item, plain, pairs in zip(items, built, asked, strict=True):
            found = [next(answers) for _ in pairs]
            greedy = [_is_greedy(pair, answer, model=model) for pair, answer in zip(pairs, found, strict=True)]
            texts = [text for _, text in plain]
            output = output_of(texts, [sum(answer.tokens) for answer in found], greedy)
            words = sum(len(context.split()) for context, _ in pairs[:1])
            generations.append(Generation(output, words, 0, "eos"))
            at = self.gold(item)
            targets.append(TokenLogprobs(found[at].tokens, 0.0, greedy[at]))
        return generations, targets

    def _scored(self, pairs: Sequence[Pair], *, model: LanguageModel) -> list[TokenLogprobs]:
        contexts, texts = [context for context, _ in pairs], [text for _, text in pairs]
        if not isinstance(model, LikelihoodModel):
            return model.logprobs(contexts, texts)
        return model.text_logprobs(texts) if self.is_rolling else model.continuation_logprobs(contexts, texts)


def output_of(continuations: Sequence[str], loglikelihoods: Sequence[float], greedy: Sequence[bool]) -> str:
    """The stored output of an item."""
    best = max(range(len(loglikelihoods)), key=lambda at: loglikelihoods[at])
    document = {
        "best": continuations[best],
        "continuations": list(continuations),
        "loglikelihoods": list(loglikelihoods),
        "greedy": [bool(value) for value in greedy],
    }
    return json.dumps(document, ensure_ascii=False)


def responses_of(output: str, *, is_rolling: bool) -> list[Response] | None:
    """lm_eval's responses from an output; None where the output is none of ours."""
    try:
        document = json.loads(output)
        found = list(zip(map(float, document["loglikelihoods"]), map(bool, document["greedy"]), strict=True))
    except (ValueError, KeyError, TypeError):
        return None
    return [value for value, _ in found] if is_rolling else list(found)


def _encoded(context: str, continuation: str, *, prompt: Callable[[str], str]) -> Pair:
    """The pair in the run's template; white space at the context's end goes to the continuation, as in lm_eval."""
    if not context:
        return "", continuation
    filled = prompt(context)
    bare = filled.rstrip()
    return bare, filled[len(bare) :] + continuation


def _is_greedy(pair: Pair, answer: TokenLogprobs, *, model: LanguageModel) -> bool:
    """As the backend tells; where it does not, whether the greedy output begins with the continuation."""
    if answer.is_greedy is not None or not pair[0] or not answer.tokens:
        return bool(answer.is_greedy)
    (said,) = model.generate([pair[0]], max_new_tokens=len(answer.tokens))
    return said.text.strip() == pair[1].strip()
