"""Wires the diagnostician: settings from the environment, probes cheap before dear, the consume loop."""

from __future__ import annotations

from functools import partial

from mendloop.axes.placing import places_of
from mendloop.bus.endings import unless_ended
from mendloop.bus.wiring import open_store, run_service
from mendloop.core.contracts import DIAGNOSTICIAN
from mendloop.core.telemetry import Telemetry
from mendloop.diagnostician.adapters.checkpoints import StoredCheckpoints
from mendloop.diagnostician.adapters.failure_mode_store import save_modes
from mendloop.diagnostician.adapters.judging import shipped_judging
from mendloop.diagnostician.adapters.probe_set import all_probes
from mendloop.diagnostician.handlers import Ports, handlers
from mendloop.diagnostician.settings import Settings
from mendloop.models.embeddings import restored
from mendloop.models.transformers_backend import load_model, warm_up


def main() -> None:
    """Run the service until SIGTERM."""
    settings = Settings.from_environment()
    store, telemetry = open_store(settings.artifacts_uri), Telemetry(DIAGNOSTICIAN)
    probes = all_probes(corpus_sample=settings.corpus_sample, fit_sample=settings.fit_sample)
    judging = shipped_judging()
    ports = Ports(
        store=store,
        checkpoints=StoredCheckpoints(store, cache=settings.work_dir / "checkpoints", load=load_model),
        probes=probes,
        telemetry=telemetry,
        failure_sample=settings.failure_sample,
        keep_modes=lambda modes, name: save_modes(store, modes, name=name),
        judge=judging.judge,
        is_clear=judging.is_clear,
        choose=judging.choose,
        places=lambda spec: places_of(
            spec.items.sha256,
            spec.recipe.suite,
            store=store,
            open_embedder=partial(restored, model=settings.embedder),
        ),
    )
    warm_up()  # ready means that the first slice does not wait for imports
    run_service(
        settings, service=DIAGNOSTICIAN, handlers=unless_ended(handlers(ports), store=ports.store), telemetry=telemetry
    )


if __name__ == "__main__":
    main()
