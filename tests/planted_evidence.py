"""Cases with known causes, as evidence tables: what the probes would say of one fault, with chance in the counts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Evidence, exact, measured, share
from mendloop.diagnostician.domain.fitting import Known
from mendloop.diagnostician.domain.uncertainty import Estimate

N = 24
HEALTHY = {
    ("forced_stop", "ran_past_share"): 0.0,
    ("forced_stop", "rescued_share"): 0.0,
    ("forced_stop", "unfinished_share"): 0.0,
    ("rescoring", "rescued_share"): 0.0,
    ("rescoring", "not_extracted_share"): 0.0,
    ("longer_budget", "rescued_share"): 0.0,
    ("reformat", "rescued_share"): 0.0,
    ("target_check", "wrong_target_share"): 0.0,
    ("paraphrase", "rescued_share"): 0.0,
    ("template_parity", "rescued_share"): 0.0,
    ("earlier_checkpoint", "right_share"): 0.0,
    ("first_steps", "rescued_share"): 0.1,
    ("corpus_coverage", "unseen_bigram_failed"): 0.1,
    ("corpus_coverage", "unseen_bigram_passing"): 0.1,
    ("leakage", "fresh_gap"): 0.0,
}
"""Shares of a sample that nothing is wrong with."""
FAULTS: dict[Cause, dict[tuple[str, str], float]] = {
    Cause.DATA_MISSING: {("corpus_coverage", "unseen_bigram_failed"): 0.95},
    Cause.SCORER_BUG: {("rescoring", "rescued_share"): 0.9},
    Cause.TRUNCATION: {("longer_budget", "rescued_share"): 0.9, ("forced_stop", "unfinished_share"): 0.95},
    Cause.PROMPT_FORMAT: {("reformat", "rescued_share"): 0.9},
    Cause.BENCHMARK_LABEL_ERROR: {("target_check", "wrong_target_share"): 0.9},
    Cause.PHRASING_MISMATCH: {("paraphrase", "rescued_share"): 0.9, ("corpus_coverage", "unseen_bigram_failed"): 0.9},
    Cause.REASONING_GAP: {("first_steps", "rescued_share"): 0.9},
    Cause.EOS_MASKED: {("forced_stop", "ran_past_share"): 0.95},
}
"""What one fault changes."""


def evidence_of(causes: Sequence[Cause], *, seed: int, blur: float = 0.0) -> tuple[Evidence, ...]:
    """Everything measured: counts are binomial draws around the shares, which blur moves towards one half.

    Several faults share the failures evenly.
    """
    rng = random.Random(seed)
    faults = {key: value / len(causes) for cause in causes for key, value in FAULTS[cause].items()}
    shares = {key: max(value, faults.get(key, 0.0)) for key, value in HEALTHY.items()}
    eos = 5.0 if Cause.EOS_MASKED in causes else 0.01
    rows = [
        exact("sampling", "failed_count", 60, 60, reading="."),
        measured("token_loss", "eos_nats", Estimate(eos, 0.9 * eos, 1.1 * eos), 64, reading="."),
        measured("token_loss", "answer_nats", Estimate(0.01, 0.009, 0.011), 64, reading="."),
        share("training_fit", "right_when_cut_share", N, N, reading="."),
    ]
    for (probe, measurement), value in shares.items():
        for sample in ("a", "b"):
            p = value + blur * (0.5 - value)
            hits = sum(rng.random() < p for _ in range(N))
            rows.append(share(probe, measurement, hits, N, reading=f"{hits} of {N}.", sample=sample))
    return tuple(rows)


def known_cases(*, group: str, seeds: range, blur: float = 0.0) -> list[Known]:
    """A case for each cause and each pair of a cause with the next one, a seed."""
    ring = [*FAULTS, next(iter(FAULTS))]
    planted = [[cause] for cause in FAULTS] + [list(pair) for pair in pairwise(ring)]
    return [
        Known(evidence_of(causes, seed=1000 * at + seed, blur=blur), frozenset(causes), group)
        for at, causes in enumerate(planted)
        for seed in seeds
    ]


def without(rows: Sequence[Evidence], drop: Callable[[Evidence], bool]) -> tuple[Evidence, ...]:
    """The rows that are not dropped."""
    return tuple(row for row in rows if not drop(row))
