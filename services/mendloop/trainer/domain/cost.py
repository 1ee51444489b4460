"""Owns what a training costs in floating-point operations. Knows counts; knows no model."""

from __future__ import annotations

PER_PARAMETER_AND_TOKEN = {"full": 6, "lora": 4}
"""Two for the forward pass, four for the backward pass (Kaplan et al. 2020, arXiv:2001.08361, section 2.1); half of the
latter are gradients of weights, which frozen ones do not need. The adapters' own few are not counted."""
REFERENCE_PER_PARAMETER_AND_TOKEN = 2
"""The forward pass of the model that a preference training starts from."""


def training_flops(parameter_count: int, *, token_count: int, method: str, objective: str) -> float:
    """Floating-point operations of a training, attention aside.

    Preferences count a reference pass for every token, though one that comes twice is passed only once.
    """
    each = PER_PARAMETER_AND_TOKEN[method]
    if objective == "dpo":
        each += REFERENCE_PER_PARAMETER_AND_TOKEN
    return float(each * parameter_count * token_count)
