"""A checkpoint in process through transformers: batched generation and teacher-forced log-probabilities.

Knows tensors and token ids; knows neither tasks nor scores. Nothing of a checkpoint's generation_config but its
EOS ids is used: its sampling and length settings would change what an evaluation measures.

Shapes: B rows of a batch, T positions, V vocabulary.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from mendloop.core.errors import Permanent
from mendloop.core.records import StopReason
from mendloop.models.checkpoint import check_directory
from mendloop.models.encoding import (
    Encoded,
    Ids,
    Tokenizer,
    answer_of,
    decoded,
    encode_examples,
    encode_prompts,
    encode_texts,
    eos_id,
)
from mendloop.models.forward import Forward
from mendloop.models.generation import Generation, Sampling, TokenLogprobs
from mendloop.models.likelihood import Likelihoods, scored_completions, scored_continuations, with_eos
from mendloop.models.teacher_forcing import TeacherForcing, buckets

BATCH_ROWS = 64


Choice = Callable[[Any, Sequence[int]], Any]
"""Next tokens [B] from logits [B, V] and the row of the batch that each line belongs to."""


def load_model(directory: Path, *, batch_rows: int = BATCH_ROWS, device_name: str = "") -> TransformersModel:
    """The checkpoint of a directory, on the named device, else on the GPU where there is one.

    On a CPU weights are float32, on a GPU they keep the type in which they are stored.
    Raises Permanent, with the directory and the reason, where it does not load completely: weights that the
    configuration does not know, or lacks, would leave random numbers in the model.
    """
    check_directory(directory)
    device = torch.device(device_name or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = "auto" if device.type == "cuda" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise Permanent(f"the checkpoint in {directory} does not load: {type(error).__name__}: {error}") from error
    model, loading = loaded
    wrong = {kind: sorted(map(str, names)) for kind, names in loading.items() if names and kind != "error_msgs"}
    if wrong:
        raise Permanent(f"the checkpoint in {directory} does not load: configuration and weights disagree: {wrong}")
    return TransformersModel(model.to(device).eval(), tokenizer, name=str(directory), batch_rows=batch_rows)


def warm_up() -> None:
    """Import and run once what the first checkpoint would otherwise wait for (seconds): a service calls it at start."""
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=16,
    )
    build: Any = AutoModelForCausalLM.from_config
    model = build(config).eval()
    with torch.inference_mode():
        model(torch.tensor([[1, 2]]), use_cache=True)
    assert AutoTokenizer is not None  # transformers imports a class when it is first named


class TransformersModel:
    """A LanguageModel on a transformers causal model. The model is used as it is: on its device, in its type."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch_rows: int = BATCH_ROWS) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._name = name
        self._batch_rows = batch_rows
        self._eos_ids = frozenset({eos_id(tokenizer), *_extra_eos_ids(model)})
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_id(tokenizer)
        self._context = getattr(model.config, "max_position_embeddings", None) or math.inf
        self._forward = Forward(model)
        self._teacher_forcing = TeacherForcing(
            self._forward, pad_id=self._pad_id, batch_rows=batch_rows, check_finite=self._check_finite
        )

    @property
    def uses_gpu(self) -> bool:
        """Whether the seconds of this model are GPU-seconds."""
        return bool(self._model.device.type == "cuda")

    @property
    def torch_model(self) -> Any:
        """The transformers model itself, for what looks inside it."""
        return self._model

    @property
    def parameter_count(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""
        return cast(Tokenizer, self._tokenizer)

    @property
    def eos_ids(self) -> frozenset[int]:
        """Every id that ends an output."""
        return self._eos_ids

    @property
    def context(self) -> float:
        """Most tokens that the model looks at; infinite where its configuration names no limit."""
        return float(self._context)

    @property
    def vocabulary(self) -> int:
        """Number of ids that both the tokenizer and the model know."""
        return int(min(len(self._tokenizer), self._model.config.vocab_size))

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        """Greedy outputs, in the order of the prompts; an output is cut before the first stop string.

        The output token count includes the EOS, and the tokens of a stop string. An output also ends, with the
        reason "length", where the model's context is full. Raises Permanent for a prompt that leaves no room in the
        context, and where the model computes NaN or infinity.
        """
        return self._outputs(prompts, sampling=None, max_new_tokens=max_new_tokens, stop=stop)

    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Outputs drawn token by token, in the order of the prompts; the rest is as for generate.

        Each prompt has a random generator of its own: other prompts of the call, and batches, change nothing but the
        last bits of the probabilities.
        """
        if len(sampling.seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts have {len(sampling.seeds)} seeds; each needs one")
        return self._outputs(prompts, sampling=sampling, max_new_tokens=max_new_tokens, stop=stop)

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """Natural-log probabilities of each completion's tokens and of the EOS that should follow, teacher-forced.

        Computed in float32. An example without a prompt that exceeds the context is measured in windows. Raises
        Permanent for any other that does not fit the context, and for NaN or infinity.
        """
        return self._likelihoods(scored_completions, prompts, encode_examples(self._tokenizer, prompts, completions))

    def continuation_logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """logprobs without the EOS; the completions of one prompt share what the prompt costs."""
        return self._likelihoods(scored_continuations, prompts, encode_examples(self._tokenizer, prompts, completions))

    def text_logprobs(self, texts: Sequence[str]) -> list[TokenLogprobs]:
        """continuation_logprobs of whole texts, special tokens of the tokenizer's own included."""
        return self._likelihoods(scored_continuations, [""] * len(texts), encode_texts(self._tokenizer, texts))

    def token_logprobs(self, examples: Sequence[Encoded]) -> list[TokenLogprobs]:
        """logprobs of examples that are token ids already and fit the context."""
        return [with_eos(scored) for scored in self._teacher_forcing.score(examples)]

    def _likelihoods(self, of: Likelihoods, prompts: Sequence[str], examples: Sequence[Encoded]) -> list[TokenLogprobs]:
        return of(examples, prompts, context=self._context, name=self._name, score=self._teacher_forcing.score)

    def _outputs(
        self, prompts: Sequence[str], *, sampling: Sampling | None, max_new_tokens: int, stop: Sequence[str]
    ) -> list[Generation]:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
        started = time.monotonic()
        encoded = encode_prompts(self._tokenizer, prompts)
        limits = [self._room(ids, wanted=max_new_tokens) for ids in encoded]
        results: list[Generation | None] = [None] * len(prompts)
        for rows in buckets([len(ids) for ids in encoded], rows=self._batch_rows):
            outputs = self._continue(
                [encoded[row] for row in rows],
                limits=[limits[row] for row in rows],
                stop=[text for text in stop if text],
                draw=_greedy if sampling is None else _Draw(sampling, rows),
            )
            for row, (ids, reason, ended) in zip(rows, outputs, strict=True):
                lead, text = answer_of(self._text(ids), prompt_text=prompts[row], stop=stop)
                results[row] = Generation(text, len(encoded[row]), len(ids), reason, ended - started, lead)
        return [result for result in results if result is not None]

    def _room(self, ids: Ids, *, wanted: int) -> int:
        room = self._context - len(ids)
        if room < 1:
            raise Permanent(
                f"a prompt of {len(ids)} tokens leaves no room in the context of {self._name} ({self._context} tokens)"
            )
        return int(min(wanted, room))

    @torch.inference_mode()
    def _continue(
        self, prompts: list[Ids], *, limits: list[int], stop: list[str], draw: Choice
    ) -> list[tuple[list[int], StopReason, float]]:
        """Token ids, stop reason and time of the end of each prompt.

        Ended rows leave the batch and its cache at once: the cache is copied at every step anyway.
        """
        device = self._model.device
        width = max(map(len, prompts))
        ids_BT = torch.tensor([[self._pad_id] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
        mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        cache = self._forward.new_cache()
        outputs: list[list[int]] = [[] for _ in prompts]
        ends: dict[int, tuple[StopReason, float]] = {}
        live = list(range(len(prompts)))
        while live:
            next_B = draw(self._next_logits(ids_BT, mask_BT, positions_BT, cache), live)
            for row, token in zip(live, next_B.tolist(), strict=True):
                outputs[row].append(token)
                reason = self._reason(outputs[row], limit=limits[row], stop=stop)
                if reason:
                    ends[row] = (reason, time.monotonic())
            kept = [at for at, row in enumerate(live) if row not in ends]
            if len(kept) < len(live):
                live = [live[at] for at in kept]
                if not live:
                    break
                index = torch.tensor(kept, device=device)
                cache.batch_select_indices(index)
                next_B, mask_BT, positions_BT = next_B[index], mask_BT[index], positions_BT[index]
            ids_BT = next_B[:, None]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones((len(live), 1))], dim=1)
            positions_BT = positions_BT[:, -1:] + 1
        return [(outputs[row], *ends[row]) for row in range(len(prompts))]

    def _next_logits(self, ids_BT: Any, mask_BT: Any, positions_BT: Any, cache: Any) -> Any:
        logits_BV = self._forward.cached(ids_BT, mask_BT=mask_BT, positions_BT=positions_BT, cache=cache, last=1)[:, 0]
        self._check_finite(logits_BV.amax(dim=-1))
        return logits_BV

    def _reason(self, ids: list[int], *, limit: int, stop: list[str]) -> StopReason | None:
        if ids[-1] in self._eos_ids:
            return "eos"
        if stop and self._has_stop(ids, stop):
            return "stop_string"
        return "length" if len(ids) >= limit else None

    def _has_stop(self, ids: list[int], stop: list[str]) -> bool:
        # a token has at least one byte of a stop string, so its last bytes tell cheaply whether to decode all
        window = max(len(text.encode()) for text in stop) + 4
        tail = self._text(ids[-window:])
        return any(text in tail for text in stop) and any(text in self._text(ids) for text in stop)

    def _text(self, ids: list[int]) -> str:
        return decoded(self._tokenizer, ids, eos_ids=self._eos_ids)

    def _check_finite(self, values: Any) -> None:
        if not torch.isfinite(values).all():
            raise Permanent(f"the checkpoint {self._name} computes NaN or infinity: its weights are broken")


def _greedy(logits_BV: Any, rows: Sequence[int]) -> Any:
    return logits_BV.argmax(dim=-1)


class _Draw:
    """A Choice at random: the inverse of the cumulated probabilities at one uniform number of the row's own."""

    def __init__(self, sampling: Sampling, rows: Sequence[int]) -> None:
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        self._sources = [random.Random(sampling.seeds[row]) for row in rows]

    def __call__(self, logits_BV: Any, rows: Sequence[int]) -> Any:
        probs_BV = (logits_BV.float() / self._temperature).softmax(dim=-1)
        ranked_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
        below_BV = ranked_BV.cumsum(dim=-1) - ranked_BV
        # a token stays while those before it do not yet reach top_p (Holtzman et al. 2020); the first always stays
        kept_BV = ranked_BV.masked_fill(below_BV >= self._top_p, 0.0).double()
        sums_BV = kept_BV.cumsum(dim=-1)
        uniform_B = torch.tensor([self._sources[row].random() for row in rows], dtype=torch.float64)
        goal_B1 = uniform_B.to(sums_BV.device)[:, None] * sums_BV[:, -1:]
        last_B1 = (kept_BV > 0).sum(dim=-1, keepdim=True) - 1
        at_B1 = torch.searchsorted(sums_BV, goal_B1, right=True).minimum(last_B1)
        return order_BV.gather(-1, at_B1).squeeze(-1)


def _extra_eos_ids(model: Any) -> Iterable[int]:
    """Chat models name more than one token that ends a turn."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if named is None:
        return ()
    return (named,) if isinstance(named, int) else tuple(named)
