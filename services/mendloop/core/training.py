"""A training job and its report, as JSON artifacts: the trainer writes; diagnostician, controller, report read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.events import stable_hash
from mendloop.core.recipe import TrainSettings

MEDIA_TYPE = "application/vnd.mendloop.training-report+json"


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """Everything that a training's result depends on. replay_share counts only where there is a batch."""

    start: Artifact
    corpus: Artifact
    batch: Artifact | None
    replay_share: float
    settings: TrainSettings
    template: str
    seed: int
    token_limit: int
    """Most tokens that the job may process; 0 means no limit."""

    @property
    def job_id(self) -> str:
        """The same job has the same id on every machine: where artifacts lie is no part of what they are."""
        shas = {name: ref.sha256 if ref else None for name, ref in self._artifacts().items()}
        return stable_hash("training", json.dumps({**self._values(), **shas}, sort_keys=True))[:32]

    def document(self) -> dict[str, object]:
        """The job as JSON values."""
        return {**self._values(), **{name: asdict(ref) if ref else None for name, ref in self._artifacts().items()}}

    @staticmethod
    def of(document: dict[str, Any]) -> TrainingJob:
        """The job of a document."""
        refs = {name: Artifact(**document[name]) if document[name] else None for name in ("start", "corpus", "batch")}
        return TrainingJob(**{**document, **refs, "settings": TrainSettings.model_validate(document["settings"])})

    def _values(self) -> dict[str, object]:
        return {
            "replay_share": self.replay_share,
            "settings": self.settings.model_dump(mode="json"),
            "template": self.template,
            "seed": self.seed,
            "token_limit": self.token_limit,
        }

    def _artifacts(self) -> dict[str, Artifact | None]:
        return {"start": self.start, "corpus": self.corpus, "batch": self.batch}


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One measured property of the training data before the first step."""

    name: str
    passed: bool
    value: float
    reading: str


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training was and did. loss_curve holds (step, mean loss in nats per labelled token)."""

    job: TrainingJob
    health: tuple[HealthCheck, ...]
    loss_curve: tuple[tuple[int, float], ...]
    step_count: int
    token_count: int
    wall_s: float
    flops: float
    stopped_early: str
    """Why fewer steps ran than asked for; empty where all ran."""

    def store(self, store: ArtifactStore) -> Artifact:
        """Write the report as JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        document = {
            **values,
            "job": self.job.document(),
            "health": [asdict(check) for check in self.health],
        }
        return store.put(json.dumps(document, sort_keys=True).encode(), media_type=MEDIA_TYPE)

    @staticmethod
    def load(store: ArtifactStore, artifact: Artifact) -> TrainingReport:
        """Read a report; raises CorruptArtifact where its bytes changed."""
        document = json.loads(store.get(artifact))
        return TrainingReport(
            **{
                **document,
                "job": TrainingJob.of(document["job"]),
                "health": tuple(HealthCheck(**check) for check in document["health"]),
                "loss_curve": tuple((int(step), float(loss)) for step, loss in document["loss_curve"]),
            }
        )
