"""Teacher-forced log-probabilities in batches; the completions of one prompt share what the prompt costs.

Knows tensors and token ids; knows neither texts nor checkpoints.

Shapes: B rows of a batch, T positions, V vocabulary, N ids whose scores are asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from mendloop.models.encoding import Encoded, Ids
from mendloop.models.forward import Forward
from mendloop.models.likelihood import Scored

LOGIT_LIMIT = 2**27
"""Most logits (rows x positions x vocabulary) of one teacher-forced batch: 512 MiB in float32."""
LEAST_SAVED = 0.25
"""Share of the ids that sharing must save: two forwards of a few ids cost more than one of some more."""


class Place(NamedTuple):
    """Where an id is predicted: row and position of the logits."""

    row: int
    position: int
    token: int


class Family(NamedTuple):
    """Examples (by index) with one prompt."""

    prompt: Ids
    members: list[int]


class TeacherForcing:
    """A Scorer on a transformers causal model. check_finite raises where a value is NaN or infinite."""

    def __init__(self, forward: Forward, *, pad_id: int, batch_rows: int, check_finite: Callable[[Any], None]) -> None:
        self._forward, self._pad_id, self._batch_rows = forward, pad_id, batch_rows
        self._check_finite = check_finite

    @torch.inference_mode()
    def score(self, examples: Sequence[Encoded]) -> list[Scored]:
        """The scores of examples that fit the context, in float32."""
        results: dict[int, Scored] = {}
        families = _families(examples)
        alone = [at for family in families if not _pays(family, examples) for at in family.members]
        lengths = [len(examples[at].input_ids) for at in alone]
        for chosen in buckets(lengths, rows=self._rows_of_logits(max(lengths, default=1))):
            rows = [alone[at] for at in chosen]
            results |= zip(rows, self._alone([examples[row] for row in rows]), strict=True)
        shared = [family for family in families if _pays(family, examples)]
        lengths = [len(family.prompt) for family in shared]
        for chosen in buckets(lengths, rows=self._rows_of_logits(max(lengths, default=1))):
            results |= self._together([shared[at] for at in chosen], examples)
        return [results[at] for at in range(len(examples))]

    def _alone(self, examples: list[Encoded]) -> list[Scored]:
        """One forward over prompt and completion of each."""
        inputs = [example.input_ids[:-1] for example in examples]
        first = min(example.prompt_length for example in examples) - 1  # no completion is predicted before it
        ids_BT, mask_BT = self._padded(inputs, is_left=False)
        logits_BTV = self._forward.plain(ids_BT, mask_BT=mask_BT, last=ids_BT.shape[1] - first)
        places = [
            Place(row, example.prompt_length - 1 - first + at, token)
            for row, example in enumerate(examples)
            for at, token in enumerate(example.completion_ids)
        ]
        picked = iter(self._picked(logits_BTV, places))
        return [_scored([next(picked) for _ in example.completion_ids]) for example in examples]

    def _together(self, families: list[Family], examples: Sequence[Encoded]) -> dict[int, Scored]:
        """One forward over each prompt gives every first id; what follows is read on from the prompt's cache."""
        ids_BT, mask_BT = self._padded([family.prompt for family in families], is_left=True)
        cache = self._forward.new_cache()
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        logits_BTV = self._forward.cached(ids_BT, mask_BT=mask_BT, positions_BT=positions_BT, cache=cache, last=1)
        members = [(row, at) for row, family in enumerate(families) for at in family.members]
        firsts = [Place(row, 0, examples[at].completion_ids[0]) for row, at in members]
        found = {at: [value] for (_, at), value in zip(members, self._picked(logits_BTV, firsts), strict=True)}
        self._read_on(members, examples, cache=cache, mask_BT=mask_BT, found=found)
        return {at: _scored(values) for at, values in found.items()}

    def _read_on(
        self,
        members: list[tuple[int, int]],
        examples: Sequence[Encoded],
        *,
        cache: Any,
        mask_BT: Any,
        found: dict[int, list[tuple[float, bool]]],
    ) -> None:
        """Add the scores of all ids but the first; completions that are alike but for their last id share a row."""
        readers: dict[tuple[int, Ids], list[int]] = {}
        for row, at in members:
            if head := examples[at].completion_ids[:-1]:
                readers.setdefault((row, head), []).append(at)
        keys = list(readers)
        lengths = [len(head) for _, head in keys]
        for chosen in buckets(lengths, rows=self._rows_of_logits(max(lengths, default=1))):
            rows = [keys[at] for at in chosen]
            logits_BTV = self._behind(rows, cache=cache, mask_BT=mask_BT)
            readings = [(row, at) for row, key in enumerate(rows) for at in readers[key]]
            places = [
                Place(row, position, token)
                for row, at in readings
                for position, token in enumerate(examples[at].completion_ids[1:])
            ]
            picked = iter(self._picked(logits_BTV, places))
            for _, at in readings:
                found[at] += [next(picked) for _ in examples[at].completion_ids[1:]]

    def _behind(self, rows: list[tuple[int, Ids]], *, cache: Any, mask_BT: Any) -> Any:
        """Logits of ids behind the prompts, each of which may stand in several rows."""
        index = torch.tensor([row for row, _ in rows], device=self._forward.device)
        own = copy.deepcopy(cache)  # the next rows need the prompts again
        own.batch_select_indices(index)
        ids_BT, own_mask_BT = self._padded([head for _, head in rows], is_left=False)
        prompt_mask_BT = mask_BT[index]
        counted_T = torch.arange(ids_BT.shape[1], device=self._forward.device)
        positions_BT = prompt_mask_BT.sum(-1, keepdim=True) + counted_T
        whole_BT = torch.cat([prompt_mask_BT, own_mask_BT], dim=1)
        return self._forward.cached(
            ids_BT, mask_BT=whole_BT, positions_BT=positions_BT, cache=own, last=ids_BT.shape[1]
        )

    def _picked(self, logits_BTV: Any, places: Sequence[Place]) -> list[tuple[float, bool]]:
        """Log-probability of the id of each place, and whether it is the most probable there."""
        rows_N, positions_N, tokens_N = torch.tensor(places, device=logits_BTV.device).reshape(-1, 3).unbind(-1)
        logits_BTV = logits_BTV.float()
        scores_N = logits_BTV[rows_N, positions_N, tokens_N] - logits_BTV.logsumexp(dim=-1)[rows_N, positions_N]
        self._check_finite(scores_N)
        greedy_N = logits_BTV.argmax(dim=-1)[rows_N, positions_N] == tokens_N
        return list(zip(scores_N.tolist(), greedy_N.tolist(), strict=True))

    def _padded(self, rows: Sequence[Ids], *, is_left: bool) -> tuple[Any, Any]:
        width = max(map(len, rows))
        pads = [[self._pad_id] * (width - len(row)) for row in rows]
        ids = [[*pad, *row] if is_left else [*row, *pad] for row, pad in zip(rows, pads, strict=True)]
        off = [[0] * len(pad) for pad in pads]
        on = [[1] * len(row) for row in rows]
        mask = [[*a, *b] if is_left else [*b, *a] for a, b in zip(off, on, strict=True)]
        return torch.tensor(ids, device=self._forward.device), torch.tensor(mask, device=self._forward.device)

    def _rows_of_logits(self, length: int) -> int:
        return max(1, min(self._batch_rows, LOGIT_LIMIT // (length * self._forward.vocabulary)))


def buckets(lengths: Sequence[int], *, rows: int) -> Iterator[list[int]]:
    """Indices in batches of about equal length: little padding."""
    order = sorted(range(len(lengths)), key=lambda at: lengths[at])
    for start in range(0, len(order), rows):
        yield order[start : start + rows]


def _families(examples: Sequence[Encoded]) -> list[Family]:
    members: dict[Ids, list[int]] = {}
    for at, example in enumerate(examples):
        members.setdefault(example.input_ids[: example.prompt_length], []).append(at)
    return [Family(prompt, own) for prompt, own in members.items()]


def _pays(family: Family, examples: Sequence[Encoded]) -> bool:
    """Whether sharing the prompt saves enough; texts behind a BOS share only that."""
    whole = sum(len(examples[at].input_ids) - 1 for at in family.members)
    return (len(family.members) - 1) * len(family.prompt) >= LEAST_SAVED * whole > 0 and len(family.members) > 1


def _scored(values: list[tuple[float, bool]]) -> Scored:
    return Scored(tuple(value for value, _ in values), tuple(is_greedy for _, is_greedy in values))
