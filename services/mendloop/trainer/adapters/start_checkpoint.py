"""Owns how a checkpoint directory becomes a model to train, and a trained model a checkpoint directory again."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from mendloop.core.errors import InvalidRecipe, Permanent
from mendloop.models.checkpoint import check_directory
from mendloop.trainer.adapters.faults import bad_start_is_permanent, full_disk_is_retryable

log = logging.getLogger(__name__)
_NOT_KEPT = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Start:
    """A loaded start checkpoint: float32 weights for training, and the type that they are stored in."""

    directory: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stored_dtype: torch.dtype
    parameter_count: int
    """Of the whole model, shared weights once, before any adapter."""


def load_start(directory: Path) -> Start:
    """Load model and tokenizer from local files only. Raises Permanent where they are missing, damaged or do not fit.

    Weights train as float32 whatever they are stored as: AdamW steps vanish in bfloat16's eight bits of mantissa.
    """
    try:
        check_directory(directory)
    except InvalidRecipe as error:
        raise Permanent(str(error)) from error
    quiet: Any = transformers_logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    with bad_start_is_permanent(directory):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype="auto", local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model, loading = loaded
    wrong = {kind: sorted(map(str, names)) for kind, names in loading.items() if names and kind != "error_msgs"}
    if wrong:  # transformers would fill the gaps with random numbers
        raise Permanent(
            f"the start checkpoint {directory}: configuration and weights disagree: {wrong}; store it again"
        )
    stored_dtype: torch.dtype = model.dtype
    return Start(directory, model.float(), tokenizer, stored_dtype, model.num_parameters())


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with; EOS, or 0, where the tokenizer has none. Labels never depend on it."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def save_trained(start: Start, *, directory: Path, weights: dict[str, Any] | None = None) -> None:
    """Write the trained weights, and every other file of the start checkpoint byte by byte: no path, no date.

    weights are given where the model itself holds only a part of them (FSDP). Raises Retryable on a full disk.
    """
    staging = directory / ".weights"
    with full_disk_is_retryable(directory):
        directory.mkdir(parents=True, exist_ok=True)
        if weights is None:
            model: torch.nn.Module = start.model
            model.to(dtype=start.stored_dtype)
            start.model.save_pretrained(staging)
        else:
            cast = {name: value.to(start.stored_dtype) for name, value in weights.items()}
            start.model.save_pretrained(staging, state_dict=cast)
        for path in sorted(staging.glob("*.safetensors*")):
            path.replace(directory / path.name)
        shutil.rmtree(staging)
        for path in sorted(start.directory.iterdir()):
            if path.is_file() and not path.name.endswith(_NOT_KEPT):
                shutil.copyfile(path, directory / path.name)
