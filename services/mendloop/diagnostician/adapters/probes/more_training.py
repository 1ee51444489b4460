"""Does a little more training on the same corpus help, or the same training from new weights?

Tells a training that was cut short, or went wrong, from a model that can do no more. Trains copies in memory; the
checkpoint stays as it is.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mendloop.core.records import Example
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence, measured, missing
from mendloop.diagnostician.domain.explained import CORPUS_FITS_NATS
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import Estimate, bootstrap_ratio
from mendloop.models.encoding import Encoded, encode_examples

NAME = "more_training"
DROP = "loss_drop"
FRESH = "fresh_drop"
STEPS, BATCH = 40, 32
RATES = (3e-4, 3e-3)
"""The better one counts: what is too high for one model is too low for another."""
FRESH_STEPS, FRESH_RATE = 80, 3e-3
MEASURED = 48
MOST_TOKENS = 256
MOST_PARAMETERS = 50_000_000
"""A larger model costs more than the answer is worth here; then a person trains on."""
FEWEST = 10
MOST_NATS = 100.0
"""Stands for a loss that is no number."""


class MoreTraining:
    """Trains on examples of the corpus for a few dozen steps, and measures others."""

    name = NAME
    cost_class = CostClass.SEARCHED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Shares of the answer loss on training examples that more steps take away (at the better rate), and that a
        model of the same shape with new weights has less after as many steps."""
        rows = list({row.prompt: row for row in case.corpus}.values())
        if case.weights is None or len(rows) < 2 * FEWEST:
            return _missing(f"It needs weights and {2 * FEWEST} training examples; there are {len(rows)}.")
        model: Any = AutoModelForCausalLM.from_pretrained(case.weights(), dtype=torch.float32)
        if sum(value.numel() for value in model.parameters()) > MOST_PARAMETERS:
            return _missing(f"The model has more than {MOST_PARAMETERS:,} parameters.")
        used, apart = _rows(case, rows, model=model, directory=case.weights())
        before = _losses(model, apart).tolist()
        nats = sum(before) / len(before)
        if nats < CORPUS_FITS_NATS:
            return _missing(f"The model fits its corpus ({nats:.3f} nats a token): nothing is unlearnt.")
        torch.manual_seed(case.seed % 2**31)
        fresh = AutoModelForCausalLM.from_config(model.config)  # type: ignore[no-untyped-call]  # transformers
        tried = [
            _loss_after(copy.deepcopy(model), used, apart, rate=rate, steps=STEPS, seed=case.seed) for rate in RATES
        ]
        new = _loss_after(fresh, used, apart, rate=FRESH_RATE, steps=FRESH_STEPS, seed=case.seed)
        return (
            _evidence(DROP, f"{STEPS} more steps on the corpus", before, min(tried, key=sum), seed=case.seed),
            _evidence(FRESH, f"{FRESH_STEPS} steps from new weights", before, new, seed=case.seed),
        )


def _missing(why: str) -> tuple[Evidence, ...]:
    return tuple(missing(NAME, row, reading=why) for row in (DROP, FRESH))


def _rows(case: Case, rows: list[Example], *, model: Any, directory: Path) -> tuple[list[Encoded], list[Encoded]]:
    """Examples to train on, and others to measure."""
    drawn = random.Random(case.seed).sample(rows, min(len(rows), FRESH_STEPS * BATCH + MEASURED))
    count = min(MEASURED, len(drawn) // 2)
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    room = min(MOST_TOKENS, getattr(model.config, "max_position_embeddings", MOST_TOKENS))
    prompts, completions = [case.template(row.prompt) for row in drawn], [row.completion for row in drawn]
    encoded = encode_examples(tokenizer, prompts, completions, max_tokens=room)
    return encoded[count:], encoded[:count]


def _evidence(measurement: str, words: str, before: list[float], after: list[float], *, seed: int) -> Evidence:
    start, end = sum(before) / len(before), sum(after) / len(after)
    kept = bootstrap_ratio(after, before, seed=seed)
    drop = Estimate(1 - kept.value, 1 - kept.high, 1 - kept.low)
    reading = (
        f"The loss of {len(before)} training examples is {start:.3g} nats a token; after {words} (on others) "
        f"it is {end:.3g} ({drop.value:.0%} less)."
    )
    return measured(NAME, measurement, drop, len(before), reading=reading)


def _loss_after(
    model: Any, used: Sequence[Encoded], apart: Sequence[Encoded], *, rate: float, steps: int, seed: int
) -> list[float]:
    """Mean nats an answer token of each example apart after the steps."""
    model.train()
    optimizer, rng = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0), random.Random(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5, 2 * (steps - step) / steps)
        loss = _losses(model, rng.sample(used, min(BATCH, len(used))), is_learning=True).mean()
        if not math.isfinite(loss.item()):
            break
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return [min(value, MOST_NATS) if math.isfinite(value) else MOST_NATS for value in _losses(model, apart).tolist()]


def _losses(model: Any, rows: Sequence[Encoded], *, is_learning: bool = False) -> torch.Tensor:
    """Mean nats of the completion's tokens with their EOS, of each example."""
    width = max(len(row.input_ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for at, row in enumerate(rows):
        tokens = torch.tensor(row.input_ids)
        ids[at, : len(tokens)] = tokens
        labels[at, row.prompt_length : len(tokens)] = tokens[row.prompt_length :]
    mask = (torch.arange(width) < torch.tensor([[len(row.input_ids)] for row in rows])).long()
    with torch.set_grad_enabled(is_learning):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        shifted = labels[:, 1:]
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), shifted, ignore_index=-100, reduction="none")
        return nats.sum(dim=1) / (shifted != -100).sum(dim=1).clamp(min=1)
