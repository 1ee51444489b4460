"""Held-out losses, early stop, packing, pieces of texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mendloop.trainer.domain.cost import training_flops
from mendloop.trainer.domain.held_out import HeldOutLosses
from mendloop.trainer.domain.labels import IGNORED, pieces
from mendloop.trainer.domain.packing import packed
from mendloop.trainer.domain.schedule import held_out


def _losses(values: list[float], *, patience: int) -> HeldOutLosses:
    losses = HeldOutLosses(patience=patience)
    for at, value in enumerate(values, start=1):
        losses.add(10 * at, value)
    return losses


def test_patience_counts_measurements_since_the_lowest() -> None:
    assert _losses([3.0, 2.0, 2.5], patience=2).reason_to_stop() == ""
    assert _losses([3.0, 2.0, 2.5, 1.9, 2.0], patience=2).reason_to_stop() == ""
    reason = _losses([3.0, 2.0, 2.5, 2.0], patience=2).reason_to_stop()
    assert reason.startswith("early stop at step 40: held-out loss 2, lowest 2 at step 20")


def test_without_patience_nothing_ends_a_training() -> None:
    assert _losses([1.0, 2.0, 3.0, 4.0], patience=0).reason_to_stop() == ""


def test_held_out_losses_go_on_from_their_json() -> None:
    begun = _losses([3.0, 2.0, 2.5], patience=2)

    resumed = HeldOutLosses(patience=2, state=json.loads(json.dumps(begun.state())))
    resumed.add(40, 2.6)

    assert resumed.reason_to_stop()
    assert resumed.points() == ((10, 3.0), (20, 2.0), (30, 2.5), (40, 2.6))


@given(some.lists(some.integers(1, 40), max_size=30), some.integers(8, 40))
@settings(max_examples=50, deadline=None)
def test_packing_keeps_every_example_once_and_rows_within_the_limit(lengths: list[int], limit: int) -> None:
    rows = packed(lengths, limit=limit)

    assert sorted(at for row in rows for at in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[at] for at in row) <= limit for row in rows)


def test_first_fit_fills_the_first_row_with_room() -> None:
    assert packed([5, 4, 3, 6, 2], limit=10) == [(0, 1), (2, 3), (4,)]


@given(some.integers(1, 200), some.integers(8, 40))
@settings(max_examples=50, deadline=None)
def test_a_text_falls_into_even_pieces_without_loss(length: int, limit: int) -> None:
    ids = tuple(range(length))

    parts = pieces(ids, max_tokens=limit, eos_in_loss=True)

    assert tuple(token for part in parts for token in part.input_ids) == ids
    assert all(part.labels == part.input_ids and part.token_count <= limit for part in parts)
    assert max(part.token_count for part in parts) - min(part.token_count for part in parts) <= 1
    assert [part.is_cut for part in parts] == [True] * (len(parts) - 1) + [False]


def test_an_eos_outside_the_loss_is_masked_in_the_last_piece_alone() -> None:
    first, last = pieces(range(10), max_tokens=8, eos_in_loss=False)

    assert first.labels == (0, 1, 2, 3, 4)
    assert last.labels == (5, 6, 7, 8, IGNORED)


def test_the_held_out_part_is_its_share_rounded_down_and_depends_on_the_seed() -> None:
    assert held_out(10, share=0.0, seed=1) == frozenset()
    assert len(held_out(10, share=0.25, seed=1)) == 2
    assert held_out(100, share=0.1, seed=1) == held_out(100, share=0.1, seed=1) != held_out(100, share=0.1, seed=2)


@pytest.mark.parametrize(
    ("method", "objective", "each"), [("full", "sft", 6), ("lora", "sft", 4), ("full", "dpo", 8), ("lora", "dpo", 6)]
)
def test_frozen_weights_save_their_gradients_and_a_reference_costs_a_pass(
    method: str, objective: str, each: int
) -> None:
    assert training_flops(10, token_count=7, method=method, objective=objective) == each * 70
