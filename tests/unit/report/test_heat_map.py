"""The heat map shows each measured cell, and nothing where nothing was measured."""

from __future__ import annotations

from typing import Any

import pytest

from mendloop.report.heat_map import heat_map

MAP: dict[str, Any] = {"layers": [0, 1], "positions": ["same words", "last token"], "pairs": 7}


def test_every_cell_has_its_figure_and_a_missing_one_none() -> None:
    svg = heat_map(MAP | {"values": [[0.0, None], [0.25, 1.0]]})
    for text in ("0.00", "0.25", "1.00", "same words", "last token", "embeddings", "after layer 1", "7 pairs"):
        assert text in svg
    assert svg.startswith("<svg")
    assert "None" not in svg


def test_harm_is_of_another_colour_and_what_rounds_to_nothing_has_no_sign() -> None:
    harm = heat_map(MAP | {"values": [[-0.4, 0.1], [0.2, 0.3]]})
    none = heat_map(MAP | {"values": [[-0.001, 0.1], [0.2, 0.3]]})
    assert "#c2410c" in harm
    assert "-0.40" in harm.replace("−", "-")
    assert "#c2410c" not in none


def test_an_example_pair_has_its_tokens_beside_the_mean() -> None:
    pair = MAP | {"positions": ["jump ← walk", "OUT:"], "values": [[1.0, 0.0], [0.1, 0.9]]}
    tokens = {"right": "I_JUMP", "wrong": "I_RUN", "clean_next": "I_WALK"}
    svg = heat_map(MAP | {"values": [[0.0, 0.0], [0.0, 1.0]], "example": pair | tokens})
    for text in ("jump ← walk", "I_JUMP", "I_RUN", "I_WALK"):
        assert text in svg


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="2 layers and 2 positions"):
        heat_map(MAP | {"values": [[0.0, 0.0]]})
