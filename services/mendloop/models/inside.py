"""Looks inside a transformers causal model: hidden states, and runs with some of them taken from another run.

Works by hooks on the decoder blocks, which it finds by their number; knows neither tasks nor probes. Rows are padded
on the right, where a causal model's real tokens cannot see the padding.

Shapes: B rows of a batch, T positions, H hidden size, N sequences.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mendloop.core.errors import Permanent
from mendloop.models.encoding import Ids, Tokenizer
from mendloop.models.inspection import Cell, Patched, Predicted, States
from mendloop.models.transformers_backend import TransformersModel, load_model

BATCH_TOKENS = 8192
"""Positions of one batch: what is held at once does not grow with the number of sequences or cells."""
_NOTHING = Cell(0, ())
"""The corrupted run as it is: one more row of the batch."""


def open_inside(directory: Path) -> ModelInside:
    """The checkpoint of a directory. Raises Permanent where it does not load or has no decoder blocks to look at."""
    return ModelInside(load_model(directory))


class ModelInside:
    """An Inside on a transformers model. Only what is asked for is kept of a pass, in float32 on the CPU."""

    def __init__(self, model: TransformersModel, *, batch_tokens: int = BATCH_TOKENS) -> None:
        self._torch_model = model.torch_model
        self._blocks = decoder_blocks(self._torch_model)
        self._tokenizer = model.tokenizer
        self._context = model.context
        known = inspect.signature(self._torch_model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._batch_tokens = batch_tokens

    @property
    def layer_count(self) -> int:
        """Number of decoder blocks."""
        return len(self._blocks)

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""
        return self._tokenizer

    def states(self, sequences: Sequence[Ids], *, layers: Sequence[int], positions: Sequence[int] = (-1,)) -> States:
        """Residual stream [N, layers, positions, H]; see the port. Raises Permanent for NaN, infinity or no room."""
        self._check_layers(layers)
        parts: list[tuple[list[int], States]] = []
        order = sorted(range(len(sequences)), key=lambda at: len(sequences[at]))
        for rows in self._batches(order, longest=max(map(len, sequences), default=1)):
            parts.append((rows, self._batch_states([sequences[at] for at in rows], layers, positions)))
        hidden = parts[0][1].shape[-1] if parts else 0
        states_NLPH = np.empty((len(sequences), len(layers), len(positions), hidden), dtype=np.float32)
        for rows, part in parts:
            states_NLPH[rows] = part
        return states_NLPH

    @torch.inference_mode()
    def patch(self, clean: Ids, corrupted: Ids, *, cells: Sequence[Cell], tokens: Sequence[int]) -> Patched:
        """Next tokens after each patched run; see the port. Raises ValueError for a layer or position that is none."""
        self._check_layers([cell.layer for cell in cells])
        shortest = min(len(clean), len(corrupted))
        outside = [cell for cell in cells if any(not -shortest <= at <= -1 for at in cell.positions)]
        if outside:
            raise ValueError(f"{outside[0]} lies outside the {shortest} positions that both sequences have")
        kept: dict[int, Any] = {}
        with self._at_layers({layer: _keep(kept, layer) for layer in {cell.layer for cell in cells}}):
            from_clean = self._predicted([clean], tokens)[0]
        outcomes: list[Predicted] = []
        every = [_NOTHING, *cells]
        for rows in self._batches(list(range(len(every))), longest=len(corrupted)):
            own = [every[row] for row in rows]
            with self._at_layers({layer: _replace(states[0], layer, own) for layer, states in kept.items()}):
                outcomes += self._predicted([corrupted] * len(own), tokens)
        return Patched(from_clean, outcomes[0], tuple(outcomes[1:]))

    @torch.inference_mode()
    def _batch_states(self, sequences: list[Ids], layers: Sequence[int], positions: Sequence[int]) -> States:
        ends_B1 = torch.tensor([len(ids) for ids in sequences], device=self._torch_model.device)[:, None]
        at_BP = ends_B1 + torch.tensor(list(positions), device=ends_B1.device)[None]
        if bool((at_BP < 0).any()):
            raise ValueError(f"positions {tuple(positions)} reach before the beginning of a sequence")
        kept: dict[int, Any] = {}
        rows_B1 = torch.arange(len(sequences), device=ends_B1.device)[:, None]
        with self._at_layers({layer: _keep(kept, layer, (rows_B1, at_BP)) for layer in set(layers)}):
            self._forward(sequences)
        states_BLPH = torch.stack([kept[layer] for layer in layers], dim=1).float()
        if not torch.isfinite(states_BLPH).all():
            raise Permanent("the checkpoint computes NaN or infinity: its weights are broken")
        array: States = states_BLPH.cpu().numpy()
        return array

    def _predicted(self, sequences: list[Ids], tokens: Sequence[int]) -> list[Predicted]:
        logits_BV = self._forward(sequences)[:, -1].float()
        if not torch.isfinite(logits_BV.amax(dim=-1)).all():
            raise Permanent("the checkpoint computes NaN or infinity: its weights are broken")
        asked = logits_BV[:, list(tokens)].tolist()
        return [Predicted(best, tuple(row)) for best, row in zip(logits_BV.argmax(-1).tolist(), asked, strict=True)]

    def _forward(self, sequences: list[Ids]) -> Any:
        """Logits of the last position, or of all; rows of a call that reads them have one length."""
        width = max(map(len, sequences))
        if width > self._context:
            raise Permanent(f"a sequence of {width} tokens does not fit the model's context of {self._context:g}")
        padded = [[*ids, *[ids[-1]] * (width - len(ids))] for ids in sequences]
        ids_BT = torch.tensor(padded, device=self._torch_model.device)
        return self._torch_model(ids_BT, use_cache=False, **self._last_only).logits

    def _batches(self, order: list[int], *, longest: int) -> Iterator[list[int]]:
        size = max(1, self._batch_tokens // longest)
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def _check_layers(self, layers: Sequence[int]) -> None:
        outside = [layer for layer in layers if not 0 <= layer <= self.layer_count]
        if outside:
            raise ValueError(f"layer {outside[0]} does not exist; layers are 0 to {self.layer_count}")

    @contextmanager
    def _at_layers(self, edits: dict[int, Any]) -> Iterator[None]:
        """Pass the residual stream [B, T, H] after each layer through its edit; the embeddings are block 0's input."""
        handles = []
        try:
            for layer, edit in edits.items():
                if layer == 0:
                    handles.append(self._blocks[0].register_forward_pre_hook(_before(edit), with_kwargs=True))
                else:
                    handles.append(self._blocks[layer - 1].register_forward_hook(_after(edit)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def decoder_blocks(model: Any) -> Any:
    """The list of decoder blocks: the first module list with as many entries as the configuration names layers.

    Raises Permanent where there is none, and for encoder-decoder models.
    """
    config = model.config.get_text_config(decoder=True)
    count = getattr(config, "num_hidden_layers", None)
    if getattr(model.config, "is_encoder_decoder", False):
        raise Permanent(f"{type(model).__name__} has an encoder; only decoder models can be looked into")
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise Permanent(f"{type(model).__name__} has no list of {count} decoder blocks, so its layers cannot be hooked")


def _keep(kept: dict[int, Any], layer: int, place: Any = ...) -> Any:
    def keep(stream_BTH: Any) -> Any:
        kept[layer] = stream_BTH[place].clone()
        return stream_BTH

    return keep


def _replace(clean_TH: Any, layer: int, cells: Sequence[Cell]) -> Any:
    places = [(row, at) for row, cell in enumerate(cells) if cell.layer == layer for at in cell.positions]

    def replace(stream_BTH: Any) -> Any:
        if not places:
            return stream_BTH
        rows, positions = (list(part) for part in zip(*places, strict=True))
        patched_BTH = stream_BTH.clone()
        patched_BTH[rows, positions] = clean_TH[positions].to(patched_BTH.dtype)
        return patched_BTH

    return replace


def _before(edit: Any) -> Any:
    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": edit(kwargs["hidden_states"])}

    return hook


def _after(edit: Any) -> Any:
    def hook(_: Any, __: Any, output: Any) -> Any:
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    return hook
