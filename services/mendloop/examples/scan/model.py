"""Owns the untrained SCAN model: a word-level tokenizer of the grammar's words and a small Llama from a seed."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mendloop.examples.scan.grammar import all_pairs

TEMPLATE = "IN: {prompt} OUT:"
CONTEXT = 128
"""The longest command with its actions has 61 tokens; the rest is room for outputs that do not stop."""
SPECIAL = ("<pad>", "<unk>", "<eos>", "IN:", "OUT:")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: 19 words of the grammar and of its actions, two of the template, three special ones."""
    words = sorted({word for pair in all_pairs() for word in (*pair.command.split(), *pair.actions.split())})
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """A Llama of about 110,000 random weights. The global random state of torch is left as it was.

    Input and output embeddings are not tied: vLLM was seen to serve tied ones wrongly after a reload.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(**ends)  # type: ignore[no-untyped-call]  # transformers has no types
    return model


def save_untrained(directory: Path, *, seed: int) -> Path:
    """A checkpoint directory with the untrained model."""
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=seed).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
