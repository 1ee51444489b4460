"""Projected gradients of the completion loss, one row an example, from one backward pass over a batch.

A linear module's gradient is the sum over positions of (output gradient) x (input); both are projected before they
meet, so that no full gradient ever exists (LoGra: Choe et al. 2024, arXiv 2405.13954). Knows neither corpus nor index.

Shapes: B rows of a batch, T positions, V vocabulary, I and O a module's inputs and outputs, J and P what is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from mendloop.attribution.adapters.second_moments import scales_of, stored_moments
from mendloop.attribution.domain.influence import Block, Rows
from mendloop.attribution.domain.settings import IndexSettings
from mendloop.attribution.ports import Text
from mendloop.core.errors import Permanent
from mendloop.models.checkpoint import check_directory, directory_sha
from mendloop.models.encoding import Encoded, Tokenizer, encode_examples, eos_id

BATCH_TOKENS = 2048
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Projection:
    """The directions that are kept of one module's inputs [I, J] and output gradients [O, P]."""

    inputs_IJ: torch.Tensor
    outputs_OP: torch.Tensor

    @property
    def size(self) -> int:
        """Numbers that the module has in a row."""
        return int(self.inputs_IJ.shape[1] * self.outputs_OP.shape[1])


def open_source(directory: Path, *, settings: IndexSettings) -> ProjectedGradients:
    """Gradients under the checkpoint of a directory, on the GPU where there is one; with uses_adam its optimizer.pt is
    read too.

    Raises Permanent where either does not load.
    """
    check_directory(directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise Permanent(f"the checkpoint in {directory} does not load: {type(error).__name__}: {error}") from error
    moments = stored_moments(directory, model) if settings.uses_adam else None
    model = model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return ProjectedGradients(
        model, tokenizer, settings=settings, checkpoint=directory_sha(directory), second_moments=moments
    )


class ProjectedGradients:
    """A GradientSource on a transformers causal model. The model is put into eval mode and asks for no gradients."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        settings: IndexSettings,
        checkpoint: str,
        second_moments: Mapping[str, torch.Tensor] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        """checkpoint: its hash. second_moments: of Adam, by parameter name, where the settings say uses_adam."""
        if settings.uses_adam and second_moments is None:
            raise Permanent("uses_adam needs the optimizer's second moments; keep the optimizer state or leave it out")
        self._model = model.eval().requires_grad_(False)
        self._tokenizer, self._settings, self._checkpoint = tokenizer, settings, checkpoint
        self._batch_tokens = batch_tokens
        self._modules = linear_modules(model, settings.layers)
        self._projections = {
            name: _projection(name, module, settings, moments=second_moments if settings.uses_adam else None)
            for name, module in self._modules.items()
        }

    @property
    def identity(self) -> str:
        """See GradientSource."""
        document = {"checkpoint": self._checkpoint, "settings": self._settings.document(), "format": 1}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See GradientSource."""
        return tuple(Block(name, projection.size) for name, projection in self._projections.items())

    def rows(self, texts: Sequence[Text]) -> Rows:
        """See GradientSource. Raises Permanent for NaN, infinity, and texts longer than the context."""
        examples = encode_examples(self._tokenizer, [text.prompt for text in texts], [t.completion for t in texts])
        self._check_lengths(examples, texts)
        rows = np.empty((len(examples), sum(block.size for block in self.blocks)), np.float32)
        for batch in _batches([len(example.input_ids) for example in examples], tokens=self._batch_tokens):
            rows[batch] = self._batch_rows([examples[at] for at in batch])
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise Permanent(
                f"{bad.sum()} of {len(rows)} gradients are NaN or infinite: the checkpoint's weights are broken"
            )
        return rows

    def _check_lengths(self, examples: Sequence[Encoded], texts: Sequence[Text]) -> None:
        context = getattr(self._model.config, "max_position_embeddings", None)
        for example, text in zip(examples, texts, strict=True):
            if context and len(example.input_ids) > context:
                raise Permanent(
                    f"an example has {len(example.input_ids)} tokens, the context {context}: {text.prompt[:80]!r}"
                )

    def _batch_rows(self, examples: Sequence[Encoded]) -> Rows:
        width = max(len(example.input_ids) for example in examples)
        pad = eos_id(self._tokenizer)
        ids_BT = torch.tensor([[*e.input_ids, *[pad] * (width - len(e.input_ids))] for e in examples])
        labels_BT = torch.tensor([self._labels(example, width) for example in examples])
        ids_BT, labels_BT = ids_BT.to(self._model.device), labels_BT.to(self._model.device)
        # nothing but the inputs asks for gradients: backward passes through the weights and computes none of theirs
        inputs = self._model.get_input_embeddings()(ids_BT).detach().requires_grad_()
        with torch.enable_grad(), self._captured(len(examples)) as gradients:
            # padding is on the right: under causal attention no real token sees it
            logits_BTV = self._model(inputs_embeds=inputs, use_cache=False).logits[:, :-1].float()
            torch.nn.functional.cross_entropy(
                logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
            ).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        return torch.cat([gradients[name].flatten(1) for name in self._projections], dim=1).cpu().numpy()

    def _labels(self, example: Encoded, width: int) -> list[int]:
        end = len(example.input_ids) - (0 if self._settings.eos_in_loss else 1)
        answer = list(example.input_ids[example.prompt_length : end])
        return [IGNORED] * example.prompt_length + answer + [IGNORED] * (width - example.prompt_length - len(answer))

    @contextmanager
    def _captured(self, rows: int) -> Iterator[dict[str, torch.Tensor]]:
        """Collects [B, P, J] of each module; a module that is called twice adds up."""
        gradients = {
            name: torch.zeros(rows, p.outputs_OP.shape[1], p.inputs_IJ.shape[1], device=self._model.device)
            for name, p in self._projections.items()
        }
        handles = [
            module.register_forward_hook(_hook(name, self._projections[name], gradients))
            for name, module in self._modules.items()
        ]
        try:
            yield gradients
        finally:
            for handle in handles:
                handle.remove()


def _hook(name: str, projection: Projection, gradients: dict[str, torch.Tensor]) -> Any:
    def keep(module: Any, arguments: Any, output_BTO: torch.Tensor) -> None:
        if output_BTO.dim() != 3:
            raise Permanent(
                f"{name} sees {output_BTO.dim()} dimensions, not (rows, positions, width); leave it out of layers"
            )
        inputs_BTJ = arguments[0].detach().float() @ projection.inputs_IJ.to(output_BTO.device)

        def add(gradient_BTO: torch.Tensor) -> None:
            outputs_BTP = gradient_BTO.float() @ projection.outputs_OP.to(gradient_BTO.device)
            gradients[name].baddbmm_(outputs_BTP.mT, inputs_BTJ)

        output_BTO.register_hook(add)  # type: ignore[no-untyped-call]  # torch has no types here

    return keep


def linear_modules(model: Any, patterns: Sequence[str]) -> dict[str, Any]:
    """The linear modules that a pattern names, in the model's order. Raises Permanent where none is named."""
    every = {name: module for name, module in model.named_modules() if _widths(module)}
    found = {name: module for name, module in every.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    if not found:
        known = sorted({name.rsplit(".", 1)[-1] for name in every})
        raise Permanent(f"no linear module matches {', '.join(patterns)}; the model's are called {', '.join(known)}")
    return found


def _widths(module: Any) -> tuple[int, int] | None:
    """Inputs and outputs of a linear module; None for any other."""
    if isinstance(module, torch.nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":  # GPT-2's linear layer, its weight transposed
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


def _projection(
    name: str, module: Any, settings: IndexSettings, *, moments: Mapping[str, torch.Tensor] | None
) -> Projection:
    widths = _widths(module)
    assert widths is not None
    inputs_IJ = _directions(f"{settings.seed}/{name}/in", width=widths[0], kept=settings.k_in)
    outputs_OP = _directions(f"{settings.seed}/{name}/out", width=widths[1], kept=settings.k_out)
    if moments is not None:
        own = moments.get(f"{name}.weight")
        scales = scales_of(name, own if own is None or isinstance(module, torch.nn.Linear) else own.T)
        inputs_IJ, outputs_OP = inputs_IJ * scales.inputs_I[:, None], outputs_OP * scales.outputs_O[:, None]
    return Projection(inputs_IJ.to(module.weight.device), outputs_OP.to(module.weight.device))


def _directions(label: str, *, width: int, kept: int) -> torch.Tensor:
    """Gaussian [width, kept] with variance 1/kept: inner products are kept in expectation. From the label alone."""
    if width <= kept:
        return torch.eye(width)
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little")
    drawn = np.random.Generator(np.random.Philox(seed)).standard_normal((width, kept)) / np.sqrt(kept)
    return torch.from_numpy(drawn.astype(np.float32))


def _batches(lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Positions in batches of about equal length with at most so many tokens, padding included."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        if batch and (len(batch) + 1) * lengths[at] > tokens:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch
