"""Pairs for activation patching: a failed prompt and the passing prompt most like it. Knows ids; knows no model.

Both end where the failed output goes wrong: after the prompt and as many tokens of the answer as were right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mendloop.diagnostician.domain.answers import Answered
from mendloop.models.encoding import Ids

START, BEFORE, DIFFERENT, AFTER, END, ANSWER, LAST = (
    "template start",
    "same words before",
    "differing words",
    "same words after",
    "template end",
    "answer so far",
    "last token",
)
ROLES = (START, BEFORE, DIFFERENT, AFTER, END, ANSWER, LAST)


@dataclass(frozen=True, slots=True)
class Frame:
    """How many tokens every prompt begins and ends with: the template."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The two runs up to the token in question. right is what should follow the corrupted one, wrong what did."""

    clean: Ids
    corrupted: Ids
    right: int
    wrong: int
    clean_next: int
    """What the passing output says there."""
    roles: Mapping[str, tuple[int, ...]]
    """Positions by what stands there, counted from the end."""
    differing_count: int


def frame_of(prompts: Sequence[Ids]) -> Frame:
    """The tokens that all prompts share at their ends; at least one token of the shortest remains between them."""
    shortest = min(map(len, prompts))
    start = next((at for at in range(shortest) if len({row[at] for row in prompts}) > 1), shortest - 1)
    end = next((at for at in range(shortest) if len({row[-1 - at] for row in prompts}) > 1), shortest - 1)
    return Frame(min(start, shortest - 1), min(end, shortest - 1 - min(start, shortest - 1)))


def contrasts(failed: Answered, passing: Sequence[Answered], *, eos: int) -> list[Answered]:
    """The passing prompts that can be paired with a failed one: as many tokens, and another next token than the wrong.

    Where none has as many tokens, those of other lengths, which are aligned from the end. Empty where no token of the
    right answer is missing from the output.
    """
    at = failed.first_wrong
    if at is None:
        return []
    wrong = _token(failed.said, at, eos=eos)
    fitting = [row for row in passing if len(row.said) >= at and _token(row.said, at, eos=eos) != wrong]
    return [row for row in fitting if len(row.prompt) == len(failed.prompt)] or fitting


def most_alike(failed: Answered, among: Sequence[Answered]) -> Answered:
    """The prompt with the fewest differing tokens; of equals the first. Its answer is not looked at: a partner that
    happens to have the right one would carry it over."""
    return min(among, key=lambda row: _differing(row.prompt, failed.prompt))


def pair_of(failed: Answered, partner: Answered, *, frame: Frame, eos: int) -> Pair:
    """The two runs, where the failed output goes wrong. Raises ValueError where it does not."""
    at = failed.first_wrong
    if at is None:
        raise ValueError("no token of the right answer is missing from the output: there is nothing to patch for")
    return Pair(
        clean=partner.prompt + partner.said[:at],
        corrupted=failed.prompt + failed.right[:at],
        right=failed.right[at],
        wrong=_token(failed.said, at, eos=eos),
        clean_next=_token(partner.said, at, eos=eos),
        roles=_roles(partner.prompt, failed.prompt, answer_length=at, frame=frame),
        differing_count=_differing(partner.prompt, failed.prompt),
    )


def _token(said: Ids, at: int, *, eos: int) -> int:
    return said[at] if at < len(said) else eos


def _differing(one: Ids, other: Ids) -> int:
    """Tokens that differ when both are aligned from the end, those that only one of them has among them."""
    different = sum(a != b for a, b in zip(reversed(one), reversed(other), strict=False))
    return different + abs(len(one) - len(other))


def _roles(clean: Ids, corrupted: Ids, *, answer_length: int, frame: Frame) -> dict[str, tuple[int, ...]]:
    shared = min(len(clean), len(corrupted))
    places: dict[str, list[int]] = {role: [] for role in ROLES}
    has_differed = False
    for at in range(-shared, 0):  # in the prompt, from its end
        has_differed |= clean[at] != corrupted[at]
        role = AFTER if has_differed else BEFORE
        role = DIFFERENT if clean[at] != corrupted[at] else role
        role = START if at + len(corrupted) < frame.start else role
        role = END if at >= -frame.end else role
        places[role].append(at - answer_length)
    places[ANSWER] = list(range(-answer_length, 0))
    for positions in places.values():
        if -1 in positions:
            positions.remove(-1)
    places[LAST] = [-1]
    return {role: tuple(positions) for role, positions in places.items() if positions}
