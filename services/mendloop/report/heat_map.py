"""Heat maps of activation patching as SVG text in the page's colours. Knows the document; knows no probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mendloop.report.plots import AFTER, BAD, as_svg, styled

MOST_LABELLED = 16
"""More columns leave no room for figures in the cells."""


def heat_map(document: Mapping[str, Any]) -> str:
    """Share recovered by layer, the first one below, and place; each cell with its value.

    document: layers, positions (labels), values[layer][position] (0 nothing, 1 all, below 0 harm, None not measured),
    pairs (count), and perhaps example: the same for one pair, with right, wrong and clean_next tokens. Raises
    ValueError where the values do not have that shape.
    """
    example = document.get("example")
    panels = [(document, f"mean over {document['pairs']} pairs of prompts")]
    if example:
        panels.append((example, _caption(example)))
    heights = [_height(panel) for panel, _ in panels]
    with styled():
        figure = Figure(figsize=(7.2, sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, (panel, caption) in zip(grid[:, 0], panels, strict=True):
            _panel(axes, panel, caption=caption)
        return as_svg(figure, title="Activation patching")


def _caption(example: Mapping[str, Any]) -> str:
    return (
        f"one pair, tokens as failing ← passing\nright: “{example['right']}”, failed output: “{example['wrong']}”, "
        f"passing output: “{example['clean_next']}”"
    )


def _height(panel: Mapping[str, Any]) -> float:
    longest = max(map(len, map(str, panel["positions"])), default=0)
    return 0.7 + 0.055 * longest + 0.3 * len(panel["layers"])


def _panel(axes: Axes, panel: Mapping[str, Any], *, caption: str) -> None:
    layers, positions, values = panel["layers"], panel["positions"], panel["values"]
    if len(values) != len(layers) or any(len(row) != len(positions) for row in values):
        raise ValueError(f"the heat map's values do not have its {len(layers)} layers and {len(positions)} positions")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value is not None:
                _cell(axes, x, y, value, is_labelled=len(positions) <= MOST_LABELLED)
    axes.set_xlim(-0.5, len(positions) - 0.5)
    axes.set_ylim(-0.5, len(layers) - 0.5)
    axes.set_xticks(range(len(positions)), map(str, positions), rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(layers)), ["embeddings" if layer == 0 else f"after layer {layer}" for layer in layers])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(caption, fontsize=9, loc="left")


def _cell(axes: Axes, x: int, y: int, value: float, *, is_labelled: bool) -> None:
    """The accent colour, as strong as the share; harm is orange. Never so strong that the page's ink is hard to read
    on it, in light or dark."""
    value = round(value, 2) or 0.0  # no tint and no sign where the figure says nothing
    strength = min(abs(value), 1.0)
    colour = BAD if value < 0 else AFTER
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, alpha=0.05 + 0.5 * strength))
    if is_labelled:
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8)
