"""A training job and its report, as JSON artifacts: the trainer writes; diagnostician, controller, report read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.events import stable_hash
from mendloop.core.recipe import TrainSettings

MEDIA_TYPE = "application/vnd.mendloop.training-report+json"
FAILURE_MEDIA_TYPE = "application/vnd.mendloop.training-failure+json"
FailureCause = Literal["not_finite", "diverged", "budget", "unhealthy"]
Curve = tuple[tuple[int, float], ...]
"""(step, value), by step."""
_FIRST_SETTINGS = frozenset(
    {
        "steps",
        "batch_size",
        "learning_rate",
        "warmup_steps",
        "weight_decay",
        "eos_in_loss",
        "prompt_in_loss",
        "on_unhealthy",
        "save_steps",
        "max_tokens",
    }
)
"""Settings that always count in a job's id. Those added later count where they are set, so that old ids stay."""


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
        values = {**self._values(), "settings": counted_settings(self.settings), **shas}
        return stable_hash("training", json.dumps(values, sort_keys=True))[:32]

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


def counted_settings(settings: TrainSettings) -> dict[str, object]:
    """The settings that a training's identity depends on, as JSON values: those added later only where they are set."""
    usual = TrainSettings().model_dump(mode="json")
    values = settings.model_dump(mode="json")
    counted = {name: value for name, value in values.items() if name in _FIRST_SETTINGS or value != usual.get(name)}
    if settings.patience:
        counted["kept_weights"] = "lowest held-out loss"  # before, patience kept those of the last step
    return counted


def trains_without_examples(settings: TrainSettings, *, has_corpus: bool) -> bool:
    """Whether a batch of no example is trained on: its corpus changed, and the objective learns from a corpus."""
    return has_corpus and settings.objective != "dpo"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One measured property of the training data before the first step."""

    name: str
    passed: bool
    value: float
    reading: str


@dataclass(frozen=True, slots=True)
class GroupCourse:
    """A group of examples in a training with group DRO; losses are in nats per labelled token."""

    group: str
    """The examples' value on the axis."""
    row_count: int
    """Distinct examples of it that the steps saw."""
    weight: float
    """Mean over the steps; the weights of all groups sum to 1."""
    reference_loss: float
    """Loss of the start checkpoint on a sample of it."""
    final_loss: float
    """Loss after the last step on the same sample."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training was and did. loss_curve holds (step, mean loss in nats per labelled token)."""

    job: TrainingJob
    health: tuple[HealthCheck, ...]
    loss_curve: Curve
    step_count: int
    token_count: int
    wall_s: float
    flops: float
    stopped_early: str
    """Why fewer steps ran than asked for; empty where all ran."""
    # What follows was added later: an older report reads with these defaults.
    gradient_norms: Curve = ()
    """(step, largest norm before clipping of the steps since the point before)."""
    held_out_curve: Curve = ()
    """(step, mean loss on the held-out part)."""
    tokens_per_s: float = 0.0
    """Input tokens a second of the steps alone; 0 where nobody measured."""
    mfu: float | None = None
    """Share of the machine's peak FLOPs that the steps used; None where the peak is not known."""
    process_count: int = 1
    """Processes that trained together."""
    kept_step: int = 0
    """The step whose weights were kept, by the lowest held-out loss; 0: the last one, where nothing may stop early."""
    groups: tuple[GroupCourse, ...] = ()
    """The groups of group DRO; empty without it."""

    def document(self) -> dict[str, object]:
        """The report as JSON values; without groups where there are none, as before there were any."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "groups"}
        groups = {"groups": [asdict(group) for group in self.groups]} if self.groups else {}
        return {**values, **groups, "job": self.job.document(), "health": [asdict(check) for check in self.health]}

    def store(self, store: ArtifactStore) -> Artifact:
        """Write the report as JSON."""
        return store.put(json.dumps(self.document(), sort_keys=True).encode(), media_type=MEDIA_TYPE)

    @staticmethod
    def load(store: ArtifactStore, artifact: Artifact) -> TrainingReport:
        """Read a report; raises CorruptArtifact where its bytes changed."""
        return TrainingReport.of(json.loads(store.get(artifact)))

    @staticmethod
    def of(document: dict[str, Any]) -> TrainingReport:
        """The report of a document."""
        return TrainingReport(
            **{
                **document,
                "job": TrainingJob.of(document["job"]),
                "health": tuple(HealthCheck(**check) for check in document["health"]),
                **{name: _curve(document.get(name, ())) for name in _CURVES},
                "groups": tuple(GroupCourse(**group) for group in document.get("groups", ())),
            }
        )


_CURVES = ("loss_curve", "gradient_norms", "held_out_curve")


@dataclass(frozen=True, slots=True)
class TrainingFailure:
    """Why a training ended without a checkpoint, and what it had cost until then: the evidence of TrainingFailed."""

    job: TrainingJob
    health: tuple[HealthCheck, ...]
    cause: FailureCause
    reason: str
    step: int
    loss_curve: Curve
    last_losses: tuple[float, ...]
    """Losses of the last steps, one by one, the failing one last."""
    gradient_norms: Curve
    token_count: int
    wall_s: float
    gpu_s: float
    flops: float
    # What follows was added later: an older failure reads with these defaults.
    gpu_s_limit: float | None = None
    """GPU-seconds at which it had to stop; None where nothing limited them."""

    def document(self) -> dict[str, object]:
        """The failure as JSON values; NaN and infinity as JSON's extension that Python reads and writes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "job": self.job.document(), "health": [asdict(check) for check in self.health]}

    def store(self, store: ArtifactStore) -> Artifact:
        """Write the failure as JSON."""
        return store.put(json.dumps(self.document(), sort_keys=True).encode(), media_type=FAILURE_MEDIA_TYPE)

    @staticmethod
    def of(document: dict[str, Any]) -> TrainingFailure:
        """The failure of a document."""
        return TrainingFailure(
            **{
                **document,
                "job": TrainingJob.of(document["job"]),
                "health": tuple(HealthCheck(**check) for check in document["health"]),
                "loss_curve": _curve(document["loss_curve"]),
                "gradient_norms": _curve(document["gradient_norms"]),
                "last_losses": tuple(map(float, document["last_losses"])),
            }
        )

    @staticmethod
    def load(store: ArtifactStore, artifact: Artifact) -> TrainingFailure:
        """Read a failure; raises CorruptArtifact where its bytes changed."""
        return TrainingFailure.of(json.loads(store.get(artifact)))


def _curve(points: Any) -> Curve:
    return tuple((int(step), float(value)) for step, value in points)
