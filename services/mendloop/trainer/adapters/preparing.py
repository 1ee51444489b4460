"""From a job's rows to what its steps see: planned, encoded, checked. One path for every objective.

Knows jobs, rows and tokenizers; knows no model and no step.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from mendloop.core.errors import Permanent
from mendloop.core.records import Example, Preference
from mendloop.core.training import HealthCheck, TrainingJob
from mendloop.models.encoding import Encoded, encode_examples, encode_prompts
from mendloop.trainer.adapters.collation import Row
from mendloop.trainer.adapters.labelling import labelled_example
from mendloop.trainer.domain.group_weights import group_of, reason_against
from mendloop.trainer.domain.health import failures, health_checks, pair_checks, text_checks
from mendloop.trainer.domain.labels import LabelledExample, LabelledPair, pieces
from mendloop.trainer.domain.schedule import Cut, Mixture, cut_to_limit, held_out, schedule

log = logging.getLogger(__name__)
PARITY_SAMPLE = 64


class Refused(Permanent):
    """Data that no step is taken on, with the health checks as far as they were made."""

    def __init__(self, reason: str, *, health: tuple[HealthCheck, ...] = ()) -> None:
        super().__init__(reason)
        self.health = health


Source = Example | Preference | LabelledExample
"""What a schedule numbers: rows as they are stored, or the encoded pieces of whole texts."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that the steps will see. order holds positions in rows, batch_size a step.

    step_tokens are input tokens without padding; held_out is for the loss on data that no step sees.
    """

    rows: list[Row]
    texts: list[str]
    """The prompts of the rows in the template; empty where rows are pieces of whole texts."""
    order: list[int]
    step_tokens: list[int]
    cut: Cut
    held_out: list[Row]


def prepare(
    job: TrainingJob,
    *,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Sequence[Example | Preference],
    batch: Sequence[Example | Preference],
) -> Prepared:
    """Plan the steps, encode the rows that they see, and cut the plan to the token limit.

    Raises Refused where there is nothing to train on, where the limit allows no step, or where group DRO has no groups.
    """
    settings = job.settings
    sources = [_sources(job, tokenizer, rows) for rows in (corpus, batch)]
    outs = [held_out(len(rows), share=settings.held_out_share, seed=job.seed) for rows in sources]
    kept = [[row for at, row in enumerate(rows) if at not in out] for rows, out in zip(sources, outs, strict=True)]
    try:
        mixture = Mixture(len(kept[0]), len(kept[1]), job.replay_share, settings.batch_size, job.seed)
    except ValueError as error:
        raise Refused(str(error)) from error
    numbered = [*kept[0], *kept[1]]
    steps = schedule(mixture, step_count=settings.steps)
    seen = sorted({number for step in steps for number in step})
    chosen = [numbered[number] for number in seen]
    rows = _encoded(job, tokenizer, chosen)
    _check_groups(job, rows)
    position = {number: at for at, number in enumerate(seen)}
    step_tokens = [sum(rows[position[number]].token_count for number in step) for step in steps]
    cut = cut_to_limit(step_tokens, token_limit=job.token_limit)
    if not cut.step_count:
        raise Refused(
            f"the token limit {job.token_limit} allows no step: the first one has {step_tokens[0]} tokens "
            f"({settings.batch_size} examples); raise the limit or lower batch_size"
        )
    order = [position[number] for step in steps[: cut.step_count] for number in step]
    left = [row for rows_, out in zip(sources, outs, strict=True) for at, row in enumerate(rows_) if at in out]
    return Prepared(
        rows, _texts(job, chosen), order, step_tokens[: cut.step_count], cut, _encoded(job, tokenizer, left)
    )


def _check_groups(job: TrainingJob, rows: Sequence[Row]) -> None:
    asked = job.settings.group_dro
    groups = [row.group for row in rows if isinstance(row, LabelledExample)]
    reason = reason_against(groups, axis=asked.axis) if asked else ""
    if reason:
        raise Refused(reason)


def check(job: TrainingJob, *, tokenizer: PreTrainedTokenizerBase, data: Prepared) -> tuple[HealthCheck, ...]:
    """The health checks. Raises Refused with every failing reading where the settings say refuse."""
    checks = _checks(job, tokenizer, data)
    wrong = failures(checks)
    if wrong and job.settings.on_unhealthy == "refuse":
        reason = f"the training data is unhealthy: {wrong}; or set on_unhealthy: warn to train all the same"
        raise Refused(reason, health=checks)
    if wrong:
        log.warning("unhealthy training data, trained all the same", extra={"readings": wrong, "job_id": job.job_id})
    return checks


def _checks(job: TrainingJob, tokenizer: PreTrainedTokenizerBase, data: Prepared) -> tuple[HealthCheck, ...]:
    if job.settings.objective == "pretrain":
        return text_checks([row for row in data.rows if isinstance(row, LabelledExample)])
    sample = range(0, len(data.rows), max(1, len(data.rows) // PARITY_SAMPLE))
    evaluated = encode_prompts(tokenizer, [data.texts[at] for at in sample])
    examples = [_prompted(data.rows[at]) for at in sample]
    trained = [example.input_ids[: example.prompt_length] for example in examples]
    prompts = list(zip(trained, evaluated, strict=True))
    pairs = [row for row in data.rows if isinstance(row, LabelledPair)]
    replayed = [row for row in data.rows if isinstance(row, LabelledExample)]
    if not pairs:
        return health_checks(replayed, prompts=prompts)
    return pair_checks(pairs, replayed=replayed, prompts=prompts)


def _prompted(row: Row) -> LabelledExample:
    return row.chosen if isinstance(row, LabelledPair) else row


def _sources(
    job: TrainingJob, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example | Preference]
) -> Sequence[Source]:
    """What the schedule numbers: the rows, or for pre-training the pieces of their whole texts."""
    if job.settings.objective != "pretrain":
        return rows
    examples = [row for row in rows if isinstance(row, Example)]
    encoded = _pairs_encoded(job, tokenizer, [(row.prompt, row.completion) for row in examples], max_tokens=None)
    limit, eos_in_loss = job.settings.max_tokens, job.settings.eos_in_loss
    return [
        _grouped(job, part, row)
        for row, text in zip(examples, encoded, strict=True)
        for part in pieces(text.input_ids, max_tokens=limit, eos_in_loss=eos_in_loss)
    ]


def _grouped(job: TrainingJob, labelled: LabelledExample, row: Example) -> LabelledExample:
    """The example with its group, where groups are weighed."""
    asked = job.settings.group_dro
    return replace(labelled, group=group_of(row.axes, axis=asked.axis)) if asked else labelled


def _texts(job: TrainingJob, rows: Sequence[Source]) -> list[str]:
    return [job.template.format(prompt=row.prompt) for row in rows if not isinstance(row, LabelledExample)]


def _encoded(job: TrainingJob, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Source]) -> list[Row]:
    texts: list[tuple[str, str]] = []
    for row in rows:
        if isinstance(row, Example):
            texts.append((row.prompt, row.completion))
        elif isinstance(row, Preference):
            texts += [(row.prompt, row.chosen), (row.prompt, row.rejected)]
    encoded = iter(_pairs_encoded(job, tokenizer, texts, max_tokens=job.settings.max_tokens))
    done: list[Row] = []
    for row in rows:
        if isinstance(row, Preference):
            chosen, rejected = (labelled_example(next(encoded), settings=job.settings) for _ in range(2))
            done.append(LabelledPair(chosen, rejected))
        elif isinstance(row, Example):
            done.append(_grouped(job, labelled_example(next(encoded), settings=job.settings), row))
        else:
            done.append(row)
    return done


def _pairs_encoded(
    job: TrainingJob, tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]], *, max_tokens: int | None
) -> list[Encoded]:
    prompts = [job.template.format(prompt=prompt) for prompt, _ in texts]
    return encode_examples(tokenizer, prompts, [completion for _, completion in texts], max_tokens=max_tokens)
