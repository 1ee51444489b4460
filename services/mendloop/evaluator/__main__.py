"""Wires the evaluator from the environment and runs it."""

from __future__ import annotations

import os

from mendloop.bus.endings import unless_ended
from mendloop.bus.wiring import open_store, run_service
from mendloop.core.contracts import EVALUATOR
from mendloop.core.telemetry import Telemetry
from mendloop.evaluator.adapters.checkpoints import StoredCheckpoints
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.adapters.serving import serving_of
from mendloop.evaluator.handlers import Ports, handlers
from mendloop.evaluator.settings import EvaluatorSettings
from mendloop.models.embeddings import embedder_of
from mendloop.models.transformers_backend import warm_up


def main() -> None:
    """Run until SIGTERM."""
    settings = EvaluatorSettings.from_environment()
    store, sealed_store = open_store(settings.artifacts_uri), open_store(settings.sealed_artifacts_uri)
    telemetry = Telemetry(EVALUATOR)
    cache, serving = settings.work_dir / "checkpoints", serving_of(settings, environment=os.environ)
    ports = Ports(
        store=store,
        sealed_store=sealed_store,
        outcomes=StoredOutcomes(store),
        sealed_outcomes=StoredOutcomes(sealed_store),
        models=StoredCheckpoints(store, cache=cache),
        telemetry=telemetry,
        embedder=embedder_of(settings.embedder),
        servers=StoredCheckpoints(store, cache=cache, open_model=serving.model),
    )
    warm_up()  # ready means that the first shard does not wait for imports
    try:
        run_service(
            settings, service=EVALUATOR, handlers=unless_ended(handlers(ports), store=ports.store), telemetry=telemetry
        )
    finally:
        serving.close()


if __name__ == "__main__":
    main()
