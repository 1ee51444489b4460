"""Small word-level models for the shipped task families: a tokenizer of given words and an untrained Llama."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<eos>")
HEAD_SIZE = 16
FEED_FORWARD = 4
"""Width of the feed-forward layer over that of the model."""
WEIGHT_SPREAD = 0.06
"""Standard deviation of random weights. transformers' .02 suits wide models: with it, modular arithmetic was .18 to .23
right after 200 to 250 steps, with .05 to .08 it was .81 to .97, with .15 it was .16."""
ROTARY_BASE = 100.0
"""Base of rotary positions: texts of these families have some 40 tokens."""


def save_untrained(
    directory: Path, *, words: Iterable[str], seed: int, hidden_size: int, layer_count: int, context: int
) -> Path:
    """Write a checkpoint directory with random weights."""
    tokenizer = word_tokenizer(words, context=context)
    heads = max(1, hidden_size // HEAD_SIZE)
    model = untrained(
        tokenizer,
        seed=seed,
        hidden_size=hidden_size,
        intermediate_size=FEED_FORWARD * hidden_size,
        num_hidden_layers=layer_count,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        initializer_range=WEIGHT_SPREAD,
    )
    return save_model(directory, model, tokenizer)


def word_tokenizer(words: Iterable[str], *, context: int) -> PreTrainedTokenizerFast:
    """One token a word, in the order of the words after the special ones; any other word is <unk>."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *dict.fromkeys(words)))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def untrained(tokenizer: PreTrainedTokenizerFast, *, seed: int, **shape: Any) -> LlamaForCausalLM:
    """A Llama with random weights for the tokenizer's words and context; shape holds the other fields of LlamaConfig.

    The global random state of torch is left as it was. Input and output embeddings are not tied: vLLM was seen to serve
    tied ones wrongly after a reload.
    """
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=False,
        bos_token_id=None,
        **ends,
        **shape,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ends)  # type: ignore[no-untyped-call]  # transformers has no types
    return model


def save_model(directory: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a checkpoint directory."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
