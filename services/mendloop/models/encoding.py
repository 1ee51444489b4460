"""How a prompt and a completion become token ids: one rule for training, generation and log-probabilities.

Knows tokenizers by the few calls that it needs; knows neither models nor templates (texts come with the
template applied).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mendloop.core.errors import Permanent

Ids = tuple[int, ...]


class Tokenizer(Protocol):
    """What is asked of a Hugging Face tokenizer."""

    @property
    def bos_token(self) -> Any:
        """The text of BOS, or None."""

    @property
    def bos_token_id(self) -> Any:
        """The id of BOS, or None."""

    @property
    def eos_token_id(self) -> Any:
        """The id of EOS, or None."""

    def __call__(self, text: Any, *, add_special_tokens: bool = True) -> Any:
        """An encoding with input_ids of one text, or of each of a list."""

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """The text of ids."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids: BOS (where the tokenizer adds it), prompt, completion, EOS.

    The first prompt_length ids are what generation starts from. is_cut means that ids beyond the limit, at least the
    EOS, were cut off.
    """

    input_ids: Ids
    prompt_length: int
    is_cut: bool

    @property
    def completion_ids(self) -> Ids:
        """The ids that carry the completion, with the EOS unless it was cut off."""
        return self.input_ids[self.prompt_length :]


def separator(prompt_text: str, completion_text: str = "") -> str:
    """What joins a completion to its prompt: one space.

    Nothing where the prompt ends or the completion begins with white space, or where there is no prompt.
    """
    if not prompt_text or prompt_text[-1].isspace() or completion_text[:1].isspace():
        return ""
    return " "


def eos_id(tokenizer: Tokenizer) -> int:
    """The id of the end-of-sequence token. Raises Permanent where the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise Permanent("the tokenizer has no EOS token, so no output could end; set eos_token in its configuration")
    return int(tokenizer.eos_token_id)


def decoded(tokenizer: Tokenizer, ids: Sequence[int], *, eos_ids: frozenset[int]) -> str:
    """All that was said, special tokens too (a hidden <unk> could make a wrong answer look right), but the EOS."""
    said = list(ids[:-1] if ids and ids[-1] in eos_ids else ids)
    return str(tokenizer.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class Answer(NamedTuple):
    """What was said after a prompt. lead is the separator in front, where it was said: lead + text is all of it."""

    lead: str
    text: str


def answer_of(text: str, *, prompt_text: str, stop: Sequence[str]) -> Answer:
    """An output cut before the first stop string and parted from the separator in front."""
    found = [text.index(mark) for mark in stop if mark and mark in text]
    said = text[: min(found)] if found else text
    rest = said.removeprefix(separator(prompt_text))
    return Answer(said[: len(said) - len(rest)], rest)


def encode_prompts(tokenizer: Tokenizer, prompt_texts: Sequence[str]) -> list[Ids]:
    """The ids that a model continues from, of each prompt.

    BOS comes first exactly where the tokenizer itself adds one and the text does not already begin with it.
    Raises Permanent where a prompt has no id at all.
    """
    return _started(tokenizer, prompt_texts, _ids(tokenizer, prompt_texts))


def encode_examples(
    tokenizer: Tokenizer, prompt_texts: Sequence[str], completion_texts: Sequence[str], *, max_tokens: int | None = None
) -> list[Encoded]:
    """The ids of prompt, completion and EOS of each example, cut to max_tokens.

    The rule: the prompt's ids are always those of the prompt alone, because generation starts from them. The text
    prompt + separator + completion is tokenized as one; where its ids begin with the prompt's ids, the rest is the
    completion. Where a token would reach over the boundary (byte-pair merges), the separator and the completion are
    tokenized alone. A word-level tokenizer gives the words of both. An empty prompt is BOS, or EOS where the tokenizer
    has no BOS.

    Raises Permanent where the tokenizer has no EOS, or where a prompt with text has no id at all.
    """
    eos = eos_id(tokenizer)
    pairs = list(zip(prompt_texts, completion_texts, strict=True))
    tails = [separator(prompt, completion) + completion if completion else "" for prompt, completion in pairs]
    heads = _ids(tokenizer, prompt_texts)
    starts = [ids if text else (ids or (_first_id(tokenizer),)) for text, ids in zip(prompt_texts, heads, strict=True)]
    wholes = _ids(tokenizer, [prompt + tail for (prompt, _), tail in zip(pairs, tails, strict=True)])
    encoded = []
    for start, head, whole, tail in zip(_started(tokenizer, prompt_texts, starts), heads, wholes, tails, strict=True):
        completion = whole[len(head) :] if whole[: len(head)] == head else _ids(tokenizer, [tail])[0]
        ids = (*start, *completion, eos)
        kept = ids if max_tokens is None else ids[:max_tokens]
        encoded.append(Encoded(kept, min(len(start), len(kept)), is_cut=len(kept) < len(ids)))
    return encoded


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoded]:
    """The ids of whole texts, each after BOS (EOS where the tokenizer has no BOS) and with the EOS behind.

    Special tokens that the tokenizer adds by itself are part of the text: a BOS is then predicted from the BOS before
    it, as lm_eval's perplexities count it. A text that begins with the BOS in writing gets no further one.
    Raises Permanent where the tokenizer has no EOS.
    """
    first, eos = _first_id(tokenizer), eos_id(tokenizer)
    mark = str(tokenizer.decode([first]))
    own = [bool(mark) and text.startswith(mark) for text in texts]
    ids = [
        tuple(tokenizer(text, add_special_tokens=not is_own).input_ids) for text, is_own in zip(texts, own, strict=True)
    ]
    return [Encoded((first, *said, eos), 1, is_cut=False) for said in ids]


def encode_example(
    tokenizer: Tokenizer, prompt_text: str, completion_text: str, *, max_tokens: int | None = None
) -> Encoded:
    """encode_examples for one example."""
    return encode_examples(tokenizer, [prompt_text], [completion_text], max_tokens=max_tokens)[0]


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    if not texts:
        return []
    distinct = list(dict.fromkeys(texts))  # the choices of a question share its prompt
    known = dict(zip(distinct, tokenizer(distinct, add_special_tokens=False).input_ids, strict=True))
    return [tuple(known[text]) for text in texts]


def _started(tokenizer: Tokenizer, texts: Sequence[str], heads: Sequence[Ids]) -> list[Ids]:
    bos = _added_bos(tokenizer)
    started = [(bos, *ids) if bos is not None and ids[:1] != (bos,) else ids for ids in heads]
    for text, ids in zip(texts, started, strict=True):
        if not ids:
            raise Permanent(f"the prompt {text!r} has no token and the tokenizer adds no BOS: nothing to start from")
    return started


def _first_id(tokenizer: Tokenizer) -> int:
    """What a text without a prompt starts from."""
    return int(tokenizer.bos_token_id) if tokenizer.bos_token_id is not None else eos_id(tokenizer)


def _added_bos(tokenizer: Tokenizer) -> int | None:
    """The BOS id where the tokenizer puts one before every text by itself."""
    bos = tokenizer.bos_token_id
    return bos if bos is not None and tuple(tokenizer("").input_ids)[:1] == (bos,) else None
