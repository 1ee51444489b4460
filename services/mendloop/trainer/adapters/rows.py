"""Owns which rows a job's artifacts hold: examples, and preferences where the objective is DPO."""

from __future__ import annotations

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.errors import CorruptArtifact, Permanent
from mendloop.core.records import Example, Preference
from mendloop.core.training import TrainingJob


def corpus_of(store: ArtifactStore, job: TrainingJob) -> list[Example]:
    """The rows that a job replays."""
    return get_rows(store, job.corpus, kind=Example)


def batch_of(store: ArtifactStore, job: TrainingJob) -> list[Example] | list[Preference] | None:
    """The new rows, None where the job has none. Raises Permanent where they are not what the objective learns from."""
    is_dpo = job.settings.objective == "dpo"
    if job.batch is None:
        if is_dpo:
            raise Permanent("the objective dpo learns from preferences, but the job has no batch of them")
        return None
    try:
        return get_rows(store, job.batch, kind=Preference) if is_dpo else get_rows(store, job.batch, kind=Example)
    except CorruptArtifact as error:
        raise CorruptArtifact(
            f"{error}; the objective is {job.settings.objective}: preferences need dpo, examples sft or pretrain"
        ) from error
