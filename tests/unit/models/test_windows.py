"""A text longer than the context is predicted once, token by token, in the windows of lm_eval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendloop.models.encoding import Encoded
from mendloop.models.generation import TokenLogprobs
from mendloop.models.windows import joined, windows

EOS = -1


def _example(length: int) -> Encoded:
    return Encoded((0, *range(1, length + 1), EOS), 1, is_cut=False)


@given(st.integers(1, 60), st.integers(2, 12))
def test_every_token_is_predicted_once_in_order_and_fits(length: int, context: int) -> None:
    parts = windows(_example(length), context=context)

    assert [token for part in parts for token in part.completion_ids] == [*range(1, length + 1), EOS]
    assert all(len(part.input_ids) <= context + 1 for part in parts)
    assert all(part.prompt_length >= 1 for part in parts)
    for part in parts[:-1]:
        assert list(part.input_ids) == list(range(part.input_ids[0], part.input_ids[-1] + 1))


def test_the_windows_are_those_of_lm_eval() -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed (extra lm-eval)")
    for length in (3, 8, 9, 20, 23):
        theirs = [
            utils.make_disjoint_window(pair)
            for pair in utils.get_rolling_token_windows(list(range(1, length + 1)), 0, max_seq_len=8, context_len=1)
        ]

        ours = windows(_example(length), context=8)[:-1]

        assert [(list(p.input_ids[: p.prompt_length]), list(p.completion_ids)) for p in ours] == [
            (list(head), list(tail)) for head, tail in theirs
        ]


def test_windows_join_to_one_completion() -> None:
    parts = [TokenLogprobs((-1.0, -2.0), -3.0), TokenLogprobs((), -4.0), TokenLogprobs((), -5.0)]

    assert joined(parts) == TokenLogprobs((-1.0, -2.0, -3.0, -4.0), -5.0)
    assert joined([TokenLogprobs((-1.0,), -2.0, is_greedy=True)]).is_greedy is True


def test_a_prompt_that_fills_the_context_leaves_no_room() -> None:
    with pytest.raises(ValueError, match="no room in a context of 2"):
        windows(Encoded((1, 2, 3, 4, EOS), 4, is_cut=False), context=2)
