"""Wires the data generator and runs it: python -m mendloop.data_generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mendloop.axes.placing import Embeds, places_of
from mendloop.bus.endings import unless_ended
from mendloop.bus.wiring import open_store, run_service
from mendloop.core.contracts import DATA_GENERATOR
from mendloop.core.errors import Permanent
from mendloop.core.records import Example
from mendloop.core.tasks import Task
from mendloop.core.telemetry import Telemetry
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.data_generator.adapters.patience import PatientSource
from mendloop.data_generator.adapters.pool import PoolSource
from mendloop.data_generator.adapters.student import CheckpointStudent
from mendloop.data_generator.adapters.teacher import TaskTeacher
from mendloop.data_generator.adapters.teaching import hired
from mendloop.data_generator.handlers import Ports, handlers
from mendloop.data_generator.ports import OpenSources, Shelf, Source
from mendloop.data_generator.settings import Settings
from mendloop.models.generation import LanguageModel


def open_sources(settings: Settings) -> OpenSources:
    """Retrieval first, then the teacher; a source that hangs is left."""

    def opened(task: Task, task_name: str, pool: Sequence[Example]) -> Sequence[Source]:
        sources: list[Source] = [PoolSource(pool, annotate=task.annotate), TaskTeacher(task, task_name=task_name)]
        return [PatientSource(source, stall_s=settings.source_stall_s) for source in sources]

    return opened


def _searching(shelf: Shelf, settings: Settings) -> Sequence[Source]:
    # Loaded here, as below: most runs ask for no retrieval, and the package is an extra.
    from mendloop.data_generator.adapters.embedding import ModelEmbedding
    from mendloop.data_generator.adapters.retrieval import open_retrieval

    opened = open_retrieval(settings.work_dir / "retrieval", embedding=ModelEmbedding(settings.embedder))(shelf)
    return [PatientSource(source, stall_s=settings.source_stall_s) for source in opened]


def _restored(name: str, state: bytes, *, model: str) -> Embeds:
    # Loaded here: torch more than triples the memory of a service that most runs never ask to embed anything.
    from mendloop.models.embeddings import restored

    return restored(name, state, model=model)


def _loaded(directory: Path) -> LanguageModel:
    # Loaded here, as above.
    try:
        from mendloop.models.transformers_backend import load_model
    except ImportError as error:
        raise Permanent(f"the student needs torch: uv pip install 'mendloop[models]' ({error})") from error
    return load_model(directory)


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings.from_environment()
    telemetry = Telemetry(DATA_GENERATOR)
    store = open_store(settings.artifacts_uri)
    ports = Ports(
        store=store,
        telemetry=telemetry,
        open_sources=open_sources(settings),
        open_index=MinHashIndex,
        limits=settings.limits,
        open_student=lambda spec, checkpoint: CheckpointStudent(
            spec, checkpoint, store=store, cache=settings.work_dir / "students", load=_loaded
        ),
        open_teaching=lambda assignment: hired(
            assignment,
            store=store,
            on_result=lambda result: telemetry.add("mendloop_teacher_calls", result=result),
        ),
        open_retrieval=lambda shelf: _searching(shelf, settings),
        places=lambda spec: places_of(
            spec.items.sha256,
            spec.recipe.suite,
            store=store,
            open_embedder=lambda name, state: _restored(name, state, model=settings.embedder),
        ),
    )
    run_service(
        settings, service=DATA_GENERATOR, handlers=unless_ended(handlers(ports), store=ports.store), telemetry=telemetry
    )


if __name__ == "__main__":
    main()
