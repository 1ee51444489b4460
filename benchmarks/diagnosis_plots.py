"""Plots of benchmarks/diagnosis.py: confusion matrix, reliability, risk against coverage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def draw(document: dict[str, Any], folder: Path) -> None:
    """Write the three plots as PNG."""
    _confusion(document["confusion"]).savefig(folder / "diagnosis_confusion.png", dpi=120)
    _reliability(document["reliability"]).savefig(folder / "diagnosis_reliability.png", dpi=120)
    _risk(document["risk_coverage"]).savefig(folder / "diagnosis_risk_coverage.png", dpi=120)


def _confusion(rows: dict[str, dict[str, int]]) -> Figure:
    planted = sorted(rows)
    said = sorted({name for counts in rows.values() for name in counts} | set(planted))
    counts = np.array([[rows[cause].get(name, 0) for name in said] for cause in planted], dtype=float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(said)), said, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(
        range(len(planted)), [f"{cause} ({int(n)})" for cause, n in zip(planted, counts.sum(axis=1), strict=True)]
    )
    axes.tick_params(axis="y", labelsize=8)
    for y, x in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[y, x] > 0.5 else "black"
        axes.text(x, y, f"{int(counts[y, x])}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("verdict")
    axes.set_ylabel("planted (cases)")
    axes.set_title("Verdicts on one planted fault, family held out")
    return figure


def _reliability(rows: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, name, words in zip(
        figure.subplots(1, 2), ("leading", "every"), ("likeliest cause", "every cause"), strict=True
    ):
        bins = rows[name]["bins"]
        said, true = [row["said"] for row in bins], [row["value"] for row in bins]
        ends = [[row["value"] - row["low"] for row in bins], [row["high"] - row["value"] for row in bins]]
        axes.plot((0, 1), (0, 1), color="#94a3b8", linewidth=1)
        axes.errorbar(said, true, yerr=ends, fmt="o", color="#2563eb", capsize=2)
        axes.set_title(f"{words}: ECE {rows[name]['ece']:.3f}")
        axes.set_xlabel("probability said")
        axes.set_ylabel("share planted (95 %)")
    return figure


def _risk(curve: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["coverage"] for row in curve], [row["risk"] for row in curve], color="#2563eb")
    axes.axvline(0.9, color="#94a3b8", linewidth=1)
    axes.axhline(0.1, color="#94a3b8", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(0.15, *(row["risk"] for row in curve)) if curve else 1)
    axes.set_xlabel("share of single faults with a verdict")
    axes.set_ylabel("wrong among them")
    axes.set_title("Risk against coverage, family held out")
    return figure
