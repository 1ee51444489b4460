"""Group DRO: a training whose loss weighs groups of examples by how far they are above the start checkpoint.

Shapes: B rows, G groups, L tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy, one_hot

from mendloop.core.training import GroupCourse
from mendloop.trainer.adapters.collation import Collation, RightPadding, Row
from mendloop.trainer.adapters.hf_trainer import JobTrainer
from mendloop.trainer.domain.group_weights import GroupWeights
from mendloop.trainer.domain.labels import IGNORED, LabelledExample

SAMPLE_COUNT = 64
"""Most examples of a group by which its loss before the first and after the last step is measured."""


class GroupPadding:
    """RightPadding that also says which group each row is of: its place among the groups."""

    def __init__(self, groups: Sequence[str], *, padding_id: int) -> None:
        self._place = {group: at for at, group in enumerate(groups)}
        self._padding = RightPadding(padding_id=padding_id)

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        # A held-out row may be of a group that no step sees; its loss is not weighed.
        places = [self._place.get(row.group, -1) for row in rows if isinstance(row, LabelledExample)]
        return {**self._padding(rows), "groups": torch.tensor(places)}


class GroupDroTrainer(JobTrainer):
    """A JobTrainer whose loss is a weighted mean over tokens: one of group g weighs as much as its group's weight.

    Equal weights give the mean over tokens, which is the loss without groups. The held-out loss has no weights.
    """

    def __init__(self, *args: Any, weights: GroupWeights, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._weights = weights

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of GroupPadding; a training step moves the weights first, by its own losses."""
        logits_BLV = model(input_ids=inputs["input_ids"], use_cache=False).logits
        nats_B, counts_B = row_nats(logits_BLV, inputs["labels"])
        if not model.training:
            loss = nats_B.sum() / counts_B.sum().clamp(min=1)
        else:
            losses = group_losses(nats_B.detach(), counts_B, inputs["groups"], count=len(self._weights.groups))
            weights_G = torch.tensor(self._weights.update(losses), device=nats_B.device, dtype=nats_B.dtype)
            loss = weighted_loss(nats_B, counts_B, weights_G[inputs["groups"]])
        return (loss, {"logits": logits_BLV}) if return_outputs else loss


def row_nats(logits_BLV: torch.Tensor, labels_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's sum of nats over its labelled tokens, and how many these are."""
    targets_BL = labels_BL[:, 1:]
    nats_BL = cross_entropy(
        logits_BLV[:, :-1].float().transpose(1, 2), targets_BL, ignore_index=IGNORED, reduction="none"
    )
    return nats_BL.sum(dim=1), (targets_BL != IGNORED).sum(dim=1)


def weighted_loss(nats_B: torch.Tensor, counts_B: torch.Tensor, weights_B: torch.Tensor) -> torch.Tensor:
    """The mean nats per token where each token weighs as much as its row."""
    return (weights_B * nats_B).sum() / (weights_B * counts_B).sum().clamp(min=torch.finfo(weights_B.dtype).tiny)


def group_losses(
    nats_B: torch.Tensor, counts_B: torch.Tensor, groups_B: torch.Tensor, *, count: int
) -> list[float | None]:
    """Mean nats per token of each of `count` groups; None where the batch holds no labelled token of it."""
    members_GB = one_hot(groups_B, count).T.to(nats_B.dtype)  # a product, as index_add has no fixed order on a GPU
    sums = torch.stack([members_GB @ nats_B, members_GB @ counts_B.to(nats_B.dtype)]).tolist()
    return [nats / tokens if tokens else None for nats, tokens in zip(*sums, strict=True)]


def measured(model: Any, rows: Sequence[Row], *, groups: Sequence[str], padding: Collation, size: int) -> list[float]:
    """The model's loss on the first SAMPLE_COUNT rows of each group, nats per token, `size` rows at a time.

    No random number is drawn: a training goes on as if nobody had measured.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.train(False)
    found = []
    with torch.no_grad():
        for group in groups:
            some = [row for row in rows if isinstance(row, LabelledExample) and row.group == group][:SAMPLE_COUNT]
            total, tokens = 0.0, 0
            for begin in range(0, len(some), size):
                batch = padding(some[begin : begin + size])
                ids_BL, labels_BL = batch["input_ids"].to(device), batch["labels"].to(device)
                nats_B, counts_B = row_nats(model(input_ids=ids_BL, use_cache=False).logits, labels_BL)
                total, tokens = total + float(nats_B.sum()), tokens + int(counts_B.sum())
            found.append(total / max(tokens, 1))
    model.train(was_training)
    return found


def group_courses(weights: GroupWeights, rows: Sequence[Row], *, final: Sequence[float]) -> tuple[GroupCourse, ...]:
    """What each group was in a training that reached its end."""
    of = [row.group for row in rows if isinstance(row, LabelledExample)]
    return tuple(
        GroupCourse(group, of.count(group), weight, reference, loss)
        for group, weight, reference, loss in zip(
            weights.groups, weights.means(), weights.references, final, strict=True
        )
    )
