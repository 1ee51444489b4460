"""Texts longer than a model's context in windows, as perplexities are measured. Knows ids; knows no tensor."""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.models.encoding import Encoded
from mendloop.models.generation import TokenLogprobs


def windows(example: Encoded, *, context: int) -> list[Encoded]:
    """The completion in windows that a context of so many tokens can predict, and the EOS in one of its own.

    Each token is predicted once: the first window begins after the prompt, each later one after the token before it,
    and the last with as many of the tokens before it as fit (lm_eval's disjoint rolling windows, context_len = 1).
    """
    start, tokens = example.input_ids[: example.prompt_length], example.completion_ids[:-1]
    eos = example.input_ids[-1]
    first = context - len(start) + 1
    if first < 1:
        raise ValueError(f"a prompt of {len(start)} tokens leaves no room in a context of {context}")
    parts = [Encoded((*start, *tokens[:first]), len(start), is_cut=False)]
    done = min(first, len(tokens))
    while done < len(tokens):
        end = min(done + context, len(tokens))
        head = tokens[max(0, end - context - 1) : done]
        parts.append(Encoded((*head, *tokens[done:end]), len(head), is_cut=False))
        done = end
    tail = (*start, *tokens)[-context:]
    return [*parts, Encoded((*tail, eos), len(tail), is_cut=False)]


def joined(parts: Sequence[TokenLogprobs]) -> TokenLogprobs:
    """The windows of one completion as one; whether all of it is greedy is not told for more than one."""
    *texts, end = parts
    if not texts:
        return end
    return TokenLogprobs(tuple(value for part in texts for value in (*part.tokens, part.eos)), end.eos)
