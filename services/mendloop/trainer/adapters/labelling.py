"""Owns the way from prompts and completions to labelled examples, the same for every training loop."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mendloop.core.recipe import TrainSettings
from mendloop.models.encoding import Encoded, encode_examples
from mendloop.trainer.domain.labels import LabelledExample, labelled


def labelled_examples(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], completions: Sequence[str], *, settings: TrainSettings
) -> list[LabelledExample]:
    """The examples with the loss that the settings say, cut at their max_tokens; prompts stand in their template."""
    encoded = encode_examples(tokenizer, prompts, completions, max_tokens=settings.max_tokens)
    return [labelled_example(row, settings=settings) for row in encoded]


def labelled_example(row: Encoded, *, settings: TrainSettings) -> LabelledExample:
    """One encoded example with the loss that the settings say."""
    return labelled(
        row.input_ids,
        prompt_length=row.prompt_length,
        is_cut=row.is_cut,
        prompt_in_loss=settings.prompt_in_loss,
        eos_in_loss=settings.eos_in_loss,
    )
