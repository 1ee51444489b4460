"""A failed prompt is paired with the passing one that is most like it, up to where its output goes wrong."""

from __future__ import annotations

import pytest

from mendloop.diagnostician.domain.answers import Answered
from mendloop.diagnostician.domain.contrast import Frame, contrasts, frame_of, most_alike, pair_of

EOS = 2
FRAME = Frame(1, 1)
FAILED = Answered((0, 11, 12, 13, 1), right=(21, 22), said=(21, 29))


def passing(*prompt: int, said: tuple[int, ...] = (21, 25)) -> Answered:
    return Answered((0, *prompt, 1), right=said, said=said)


def test_the_output_goes_wrong_at_the_first_token_that_differs() -> None:
    assert FAILED.first_wrong == 1
    assert Answered((0,), right=(5, 6), said=(5,)).first_wrong == 1
    assert Answered((0,), right=(5, 6), said=(5, 6, 7)).first_wrong is None, "going on is no wrong token of the answer"


def test_the_partner_has_as_many_tokens_and_the_fewest_differ() -> None:
    near, far, longer = passing(11, 14, 13), passing(15, 14, 13), passing(9, 11, 12, 13)
    fitting = contrasts(FAILED, [far, longer, near], eos=EOS)
    assert fitting == [far, near]
    assert most_alike(FAILED, fitting) == near


def test_other_lengths_are_taken_where_there_is_no_equal_one() -> None:
    longer = passing(9, 11, 12, 13)
    assert contrasts(FAILED, [longer], eos=EOS) == [longer]
    pair = pair_of(FAILED, longer, frame=FRAME, eos=EOS)
    assert pair.differing_count == 2, "one token differs, one is more"
    assert {at for places in pair.roles.values() for at in places} == set(range(-6, 0))


def test_an_output_that_goes_on_like_the_wrong_one_or_is_too_short_is_no_contrast() -> None:
    assert contrasts(FAILED, [passing(11, 14, 13, said=(21, 29)), passing(11, 14, 13, said=())], eos=EOS) == []
    ended = Answered((0, 11, 12, 13, 1), right=(21, 22), said=(21,))
    assert contrasts(ended, [passing(11, 14, 13, said=(21,))], eos=EOS) == [], "both end here"


def test_an_output_with_no_wrong_token_has_no_pair() -> None:
    runs_on = Answered((0, 11, 1), right=(21,), said=(21, 21))
    assert contrasts(runs_on, [passing(12)], eos=EOS) == []
    with pytest.raises(ValueError, match="nothing to patch"):
        pair_of(runs_on, passing(12), frame=FRAME, eos=EOS)


def test_a_pair_holds_what_was_right_so_far_and_names_every_place_once() -> None:
    pair = pair_of(FAILED, passing(11, 14, 13), frame=FRAME, eos=EOS)
    assert (pair.clean, pair.corrupted) == ((0, 11, 14, 13, 1, 21), (0, 11, 12, 13, 1, 21))
    assert (pair.right, pair.wrong, pair.clean_next) == (22, 29, 25)
    assert pair.roles == {
        "template start": (-6,),
        "same words before": (-5,),
        "differing words": (-4,),
        "same words after": (-3,),
        "template end": (-2,),
        "last token": (-1,),
    }


def test_the_frame_is_what_all_prompts_share_at_their_ends() -> None:
    assert frame_of([(0, 7, 5, 1), (0, 8, 5, 6, 1), (0, 9, 9, 1)]) == Frame(1, 1)
    assert frame_of([(0, 7, 1)]) == Frame(2, 0), "a single prompt keeps one token of its own"
