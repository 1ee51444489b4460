"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290), with replayed examples beside the pairs.

Shapes: B rows, P pairs, L tokens, V vocabulary.

Not TRL's DPOTrainer: it tokenizes by a rule of its own (a prompt would then differ from the evaluated one), takes only
datasets.Dataset and shuffles it, keeps a second model in memory or a cache beside its output, and cannot mix replayed
examples in. A test compares losses and gradients with TRL's on the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import PreTrainedModel

from mendloop.trainer.adapters.collation import PairPadding, Row
from mendloop.trainer.adapters.hf_trainer import JobTrainer
from mendloop.trainer.domain.labels import IGNORED, LabelledPair


class PreferenceTrainer(JobTrainer):
    """A JobTrainer whose loss is the mean over rows: DPO of a pair, mean nats per token of a replayed example."""

    def __init__(self, *args: Any, beta: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._beta = beta

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of PairPadding."""
        logits_BLV = model(input_ids=inputs["input_ids"], use_cache=False).logits
        gaps_P = inputs["reference_gaps"]
        losses_R = row_losses(logits_BLV, inputs["labels"], gaps_P, beta=self._beta)
        loss = losses_R.mean()
        return (loss, {"logits": logits_BLV}) if return_outputs else loss

    def held_out_weight(self, inputs: dict[str, torch.Tensor]) -> int:
        """Rows: a pair is one."""
        return len(inputs["labels"]) - len(inputs["reference_gaps"])


def row_losses(logits_BLV: torch.Tensor, labels_BL: torch.Tensor, gaps_P: torch.Tensor, *, beta: float) -> torch.Tensor:
    """The loss of each pair (equation 7 of the paper) and then of each replayed example, in nats.

    gaps_P holds log p(chosen) - log p(rejected) under the reference model.
    """
    pair_count = len(gaps_P)
    logps_B = sequence_logps(logits_BLV, labels_BL)
    chosen_P, rejected_P, others = logps_B[:pair_count], logps_B[pair_count : 2 * pair_count], logps_B[2 * pair_count :]
    pair_losses_P = -logsigmoid(beta * (chosen_P - rejected_P - gaps_P))
    token_counts = (labels_BL[2 * pair_count :, 1:] != IGNORED).sum(dim=1).clamp(min=1)
    return torch.cat([pair_losses_P, -others / token_counts])


def sequence_logps(logits_BLV: torch.Tensor, labels_BL: torch.Tensor) -> torch.Tensor:
    """Sum of the log-probabilities of each row's labelled tokens, in nats."""
    targets_BL = labels_BL[:, 1:]
    nats_BL = cross_entropy(
        logits_BLV[:, :-1].float().transpose(1, 2), targets_BL, ignore_index=IGNORED, reduction="none"
    )
    return -nats_BL.sum(dim=1)


def with_references(model: PreTrainedModel, rows: Sequence[Row], *, padding: PairPadding, batch_size: int) -> list[Row]:
    """The rows with each pair's reference gap under the model as it is now: nobody keeps a second model in memory."""
    places = [at for at, row in enumerate(rows) if isinstance(row, LabelledPair)]
    done = list(rows)
    was_training, device = model.training, next(model.parameters()).device
    model.train(False)
    with torch.no_grad():
        for begin in range(0, len(places), batch_size):
            some = places[begin : begin + batch_size]
            batch = {name: value.to(device) for name, value in padding([rows[at] for at in some]).items()}
            logps_B = sequence_logps(model(input_ids=batch["input_ids"], use_cache=False).logits, batch["labels"])
            chosen_P, rejected_P = logps_B.chunk(2)
            for at, gap in zip(some, (chosen_P - rejected_P).tolist(), strict=True):
                pair = rows[at]
                assert isinstance(pair, LabelledPair)
                done[at] = replace(pair, reference_gap=gap)
    model.train(was_training)
    return done
