"""Tiny random checkpoints for tests of models: a word-level and a byte-pair tokenizer, a Llama of two layers."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ("<pad>", "<unk>", "<eos>", "IN:", "OUT:", *(f"w{index}" for index in range(11)))


def word_tokenizer(*, eos: str | None = "<eos>") -> PreTrainedTokenizerFast:
    """Whole words; joined by one space when decoded."""
    core = Tokenizer(token_models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token=eos)


def byte_pair_tokenizer(*, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained here; "ab" is a merge that can reach over the end of a prompt."""
    core = Tokenizer(token_models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["Question: 1 + 1 = \n\nAnswer: 2", "Question: ab\n\nAnswer: ab ab"] * 20, trainer)
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def tiny_llama(
    vocabulary: int, *, seed: int = 0, context: int = 64, hidden: int = 16, layers: int = 2, tied: bool = False
) -> LlamaForCausalLM:
    """Random weights, large enough that the greedy output is not one token for ever."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=context,
            tie_word_embeddings=tied,
            initializer_range=0.6,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        return LlamaForCausalLM(config).eval()


def save(directory: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A checkpoint directory."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
