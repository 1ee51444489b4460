"""A heat map of layers by positions as SVG text in the page's colours. Knows the document; knows no probe."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from mendloop.report.plots import as_svg, styled


def heat_map(document: dict[str, Any]) -> str:
    """document: layers (labels), positions (labels), values[layer][position] in 0..1 or beyond, pairs (count)."""
    layers, positions, values = document["layers"], document["positions"], document["values"]
    with styled():
        figure = Figure(figsize=(7.2, 1.2 + 0.3 * max(len(layers), 2)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0, origin="lower")
        axes.set_xticks(range(len(positions)), [str(label) for label in positions], rotation=45, ha="right")
        axes.set_yticks(range(len(layers)), [str(label) for label in layers])
        axes.set_ylabel("layer")
        axes.set_xlabel(f"position, mean over {document['pairs']} pairs of prompts")
        figure.colorbar(image, ax=axes, label="share restored")
        return as_svg(figure, title="Activation patching")
