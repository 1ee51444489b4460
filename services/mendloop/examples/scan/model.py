"""Owns the untrained SCAN model: a word-level tokenizer of the grammar's words and a small Llama from a seed."""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mendloop.examples.scan.grammar import all_pairs
from mendloop.examples.words import save_model, untrained, word_tokenizer

TEMPLATE = "IN: {prompt} OUT:"
TEMPLATE_WORDS = ("IN:", "OUT:")
CONTEXT = 128
"""The longest command with its actions has 61 tokens; the rest is room for outputs that do not stop."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: 19 words of the grammar and of its actions, two of the template, three special ones."""
    words = sorted({word for pair in all_pairs() for word in (*pair.command.split(), *pair.actions.split())})
    return word_tokenizer((*TEMPLATE_WORDS, *words), context=CONTEXT)


def build_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """A Llama of about 110,000 random weights."""
    return untrained(
        tokenizer,
        seed=seed,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )


def save_untrained(directory: Path, *, seed: int) -> Path:
    """A checkpoint directory with the untrained model."""
    tokenizer = build_tokenizer()
    return save_model(directory, build_model(tokenizer, seed=seed), tokenizer)
