"""Wires the trainer: settings from the environment, the Hugging Face backend, the consume loop."""

from __future__ import annotations

import threading

from mendloop.bus.endings import until_ended
from mendloop.bus.wiring import open_store, run_service
from mendloop.core.contracts import TRAINER
from mendloop.core.telemetry import Telemetry
from mendloop.trainer.adapters.stored_training import StoredTraining
from mendloop.trainer.handlers import Ports, handlers
from mendloop.trainer.settings import Settings


def main() -> None:
    """Run the service until SIGTERM."""
    settings = Settings.from_environment()
    store, telemetry = open_store(settings.artifacts_uri), Telemetry(TRAINER)
    backend = StoredTraining(
        store,
        work_dir=settings.work_dir,
        telemetry=telemetry,
        torch_threads=settings.torch_threads,
        peak_flops=settings.trainer_peak_flops,
        processes=settings.trainer_processes,
        strategy=settings.trainer_strategy,
    )
    backend.sweep()
    threading.Thread(target=backend.warm, name="warm", daemon=True).start()
    run_service(
        settings,
        service=TRAINER,
        handlers=until_ended(handlers(Ports(store, backend)), store=store),
        telemetry=telemetry,
    )


if __name__ == "__main__":
    main()
