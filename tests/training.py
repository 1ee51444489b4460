"""Builds tiny trainings for tests: a random Llama over SCAN's words, its pairs as examples, a job over both."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mendloop.artifacts.store import Artifact
from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Preference
from mendloop.core.training import TrainingJob
from mendloop.examples.scan.grammar import all_pairs
from mendloop.trainer.adapters.hf_training import run_job

TEMPLATE = "IN: {prompt} OUT:"


def scan_examples(count: int, *, source: str = "corpus", skip: int = 0) -> list[Example]:
    """Every 19th pair of SCAN's grammar (20,910 = 2 · 3 · 5 · 17 · 41 of them, so none comes twice)."""
    pairs = all_pairs()
    chosen = (pairs[(skip + 19 * at) % len(pairs)] for at in range(count))
    return [Example(pair.command, pair.actions, source) for pair in chosen]


def scan_preferences(count: int) -> list[Preference]:
    """Pairs of SCAN's grammar: the right actions before those of the next pair."""
    examples = scan_examples(count + 1, source="preferences", skip=7)
    return [Preference(one.prompt, one.completion, other.completion, one.source) for one, other in pairwise(examples)]


def tiny_checkpoint(directory: Path, *, hidden_size: int = 16, pad_is_eos: bool = False, dropout: float = 0.0) -> Path:
    """Write a random two-layer Llama with a word-level tokenizer; dropout makes it depend on the RNG's state."""
    words = sorted({word for pair in all_pairs() for text in (pair.command, pair.actions) for word in text.split()})
    vocabulary = {word: at for at, word in enumerate(["<pad>", "<eos>", "<unk>", "IN:", "OUT:", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<eos>" if pad_is_eos else "<pad>",
        unk_token="<unk>",
    )
    fast.save_pretrained(directory)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        attention_dropout=dropout,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1 if pad_is_eos else 0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def job(*, batch: bool = False, replay_share: float = 0.5, token_limit: int = 0, **settings: Any) -> TrainingJob:
    """A short job; keyword arguments are training settings."""
    defaults: dict[str, Any] = {"steps": 12, "batch_size": 8, "save_steps": 3, "warmup_steps": 2, "max_tokens": 96}
    return TrainingJob(
        start=_artifact("a"),
        corpus=_artifact("b"),
        batch=_artifact("c") if batch else None,
        replay_share=replay_share if batch else 0.0,
        settings=TrainSettings(**{**defaults, **settings}),
        template=TEMPLATE,
        seed=7,
        token_limit=token_limit,
    )


def _artifact(digit: str) -> Artifact:
    return Artifact(f"file:///artifact-{digit}", digit * 64, 1, "application/octet-stream")


def train_with_trace(work: TrainingJob, *, start: Path, folder: Path) -> None:
    """Train in this process; folder/steps gets a line per step, folder/report.json the report without its seconds."""
    with (folder / "steps").open("a") as steps:

        def trace(step: int, token_count: int) -> None:
            steps.write(f"{step}\n")
            steps.flush()

        report = run_job(
            work,
            start_dir=start,
            corpus=scan_examples(200),
            batch=scan_examples(16, source="batch", skip=5),
            work_dir=folder / "work",
            out_dir=folder / "out",
            on_step=trace,
            torch_threads=1,
        )
    values = {"curve": report.loss_curve, "tokens": report.token_count, "flops": report.flops}
    (folder / "report.json").write_text(json.dumps(values))
