"""Owns low-rank adapters (Hu et al. 2021, arXiv:2106.09685) through PEFT: put on before training, merged after it.

A merged checkpoint is a whole one: evaluator, diagnostician and vLLM need not know that adapters made it. The adapter
itself lies beside the weights in the folder `adapter`, for people who serve many of them over one base.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from mendloop.core.errors import Permanent
from mendloop.core.recipe import TrainSettings
from mendloop.trainer.adapters.faults import full_disk_is_retryable

FOLDER = "adapter"
_ALL_LINEAR = "all-linear"
"""PEFT's name for every linear layer but the output layer."""


def with_adapters(model: PreTrainedModel, settings: TrainSettings, *, seed: int) -> PeftModel:
    """The model with frozen weights and new adapters; where they begin depends on the seed alone.

    Raises Permanent where lora_targets names no layer, or the output layer of tied weights: the merge would change the
    embedding too.
    """
    targets = list(settings.lora_targets) or _ALL_LINEAR
    if model.config.tie_word_embeddings and "lm_head" in settings.lora_targets:
        raise Permanent(
            "lora_targets names lm_head, whose weights are the embedding's too (tied): merging would change both; "
            "leave it out"
        )
    config = LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=targets, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**32)
        try:
            adapted: PeftModel = get_peft_model(model, config)
        except ValueError as error:
            names = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if _is_linear(part)})
            raise Permanent(
                f"no adapter fits: lora_targets is {list(settings.lora_targets)}, the model's linear layers are "
                f"{names}: {str(error).partition(chr(10))[0]}"
            ) from error
    return adapted


def save_adapter(model: PeftModel, *, directory: Path) -> None:
    """Write adapter and configuration to directory/adapter: no path, no date. Raises Retryable on a full disk."""
    folder = directory / FOLDER
    with full_disk_is_retryable(directory):
        model.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
        config = folder / "adapter_config.json"
        values = json.loads(config.read_text())
        values["base_model_name_or_path"] = None  # a path of this machine
        values["target_modules"] = sorted(values["target_modules"])  # a set: its order is another in each process
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def merged(model: PeftModel) -> PreTrainedModel:
    """The model with the adapters added to its weights (float32, as it was trained)."""
    whole: PreTrainedModel = model.merge_and_unload()
    return whole


def _is_linear(part: torch.nn.Module) -> bool:
    return isinstance(part, torch.nn.Linear)
