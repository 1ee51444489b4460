"""Owns which tokens of an example carry loss. Knows token ids and never looks at the padding id.

A tokenizer may use its EOS as padding; labels made from "is it the padding id?" would then mask every EOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

IGNORED = -100
"""Label of a token without loss (the default ignore_index of torch's cross-entropy)."""


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """One example as a training sees it. labels has one entry a token: its id where it carries loss, else IGNORED."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_length: int
    is_cut: bool
    """Whether max_tokens cut tokens off, the EOS among them; otherwise the last token is the EOS."""
    group: str = ""
    """Which group of group DRO it is of; empty without group DRO."""

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.labels) or not 0 <= self.prompt_length <= len(self.input_ids):
            raise ValueError(
                f"an example has {len(self.input_ids)} tokens, {len(self.labels)} labels, prompt_length "
                f"{self.prompt_length}; tokens and labels must be as many, and the prompt no longer"
            )

    @property
    def token_count(self) -> int:
        """Input tokens, without padding."""
        return len(self.input_ids)

    @property
    def completion_end(self) -> int:
        """Position after the last completion token, before the EOS."""
        return len(self.input_ids) if self.is_cut else max(self.prompt_length, len(self.input_ids) - 1)

    @property
    def has_completion(self) -> bool:
        """Whether a completion token is left beside the EOS."""
        return self.completion_end > self.prompt_length


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two completions of one prompt, the better one first.

    reference_gap is log p(chosen) - log p(rejected) under the model that the training starts from, in nats.
    """

    chosen: LabelledExample
    rejected: LabelledExample
    reference_gap: float = 0.0

    @property
    def token_count(self) -> int:
        """Input tokens of both, without padding."""
        return self.chosen.token_count + self.rejected.token_count


def labelled(
    input_ids: Sequence[int], *, prompt_length: int, is_cut: bool, prompt_in_loss: bool, eos_in_loss: bool
) -> LabelledExample:
    """The example with loss on its completion, and on its prompt and EOS where the settings say so."""
    labels = list(input_ids)
    if not prompt_in_loss:
        labels[:prompt_length] = [IGNORED] * min(prompt_length, len(labels))
    if not eos_in_loss and not is_cut:
        labels[-1] = IGNORED
    return LabelledExample(tuple(input_ids), tuple(labels), prompt_length, is_cut)


def pieces(input_ids: Sequence[int], *, max_tokens: int, eos_in_loss: bool) -> list[LabelledExample]:
    """A whole text, the EOS included, in as few pieces as max_tokens allows, about equally long; every token has loss.

    All but the last are marked as cut: no EOS ends them. Nothing of the text is lost.
    """
    count = -(-len(input_ids) // max_tokens)
    bounds = [round(at * len(input_ids) / count) for at in range(count + 1)]
    parts = [tuple(input_ids[low:high]) for low, high in pairwise(bounds)]
    *whole, last = parts
    labels = last if eos_in_loss else (*last[:-1], IGNORED)
    return [*(LabelledExample(part, part, 0, is_cut=True) for part in whole), LabelledExample(last, labels, 0, False)]
