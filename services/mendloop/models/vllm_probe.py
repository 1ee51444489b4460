"""Proves that a server serves a checkpoint: its log-probabilities of one prompt against transformers' own.

Needed because a server can be wrong in silence: weights that were swapped half (tied embeddings), float32 served as
bfloat16, another model behind the same name.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mendloop.core.errors import Permanent
from mendloop.models.checkpoint import directory_sha
from mendloop.models.encoding import Encoded, Tokenizer
from mendloop.models.generation import TokenLogprobs
from mendloop.models.transformers_backend import load_model

PROBE_TOKENS = 48
TOLERANCE_NATS = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}
"""Most difference of one token's log-probability, by the type that the server computes in."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What transformers says about a checkpoint, on the CPU in float32."""

    directory: Path
    sha256: str
    tokenizer: Tokenizer
    eos_ids: frozenset[int]
    context: float
    probe: Encoded
    values: tuple[float, ...]


def reference_of(directory: Path) -> Reference:
    """The reference of a checkpoint. Raises Permanent where it does not load, or computes NaN."""
    model = load_model(directory, device_name="cpu")
    length = int(min(PROBE_TOKENS, model.context))
    rng = random.Random(0)  # ids from all of the vocabulary: a wrong embedding or head shows in some of them
    ids = tuple(rng.randrange(model.vocabulary) for _ in range(length))
    probe = Encoded(ids, 1, is_cut=False)
    return Reference(
        directory=directory,
        sha256=directory_sha(directory),
        tokenizer=model.tokenizer,
        eos_ids=model.eos_ids,
        context=model.context,
        probe=probe,
        values=_values(model.token_logprobs([probe])[0]),
    )


def difference(reference: Reference, served: TokenLogprobs) -> float:
    """The largest difference of one token's log-probability, in nats."""
    pairs = zip(reference.values, _values(served), strict=True)
    return max(abs(expected - said) for expected, said in pairs)


def tolerance_of(dtype: str) -> float:
    """The difference that a numeric type may make. Raises Permanent for a type that is not known."""
    if dtype not in TOLERANCE_NATS:
        raise Permanent(f"numeric type {dtype!r} is unknown; vLLM is run in {', '.join(TOLERANCE_NATS)}")
    return TOLERANCE_NATS[dtype]


def dtype_of(directory: Path) -> str:
    """The numeric type in which a checkpoint is stored; float32 where it does not say."""
    config = read_config(directory)
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's config.json."""
    document: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return document


def why_restart(old: Path, new: Path) -> str:
    """Why the weights of `new` cannot be put into a server that serves `old`; empty where they can."""
    before, after = ({k: v for k, v in read_config(d).items() if k != "transformers_version"} for d in (old, new))
    if before != after:
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        return f"config.json differs in {', '.join(changed)}"
    if _is_tied(after):
        # vLLM loads the shared matrix once and leaves the other name's copy old: wrong output without an error
        return "input and output embeddings are tied"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if _bytes(old / name) != _bytes(new / name):
            return f"{name} differs"
    return ""


def _is_tied(config: dict[str, Any]) -> bool:
    nested = [value for value in config.values() if isinstance(value, dict) and "vocab_size" in value]
    # not said means tied for several families
    return any(part.get("tie_word_embeddings", True) for part in [config, *nested][-1:])


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _values(scored: TokenLogprobs) -> tuple[float, ...]:
    return (*scored.tokens, scored.eos)
