"""Starts the controller: `python -m mendloop.controller`; with `migrate` it only brings the database up to date."""

from __future__ import annotations

import logging
import sys
import time

from mendloop.bus.wiring import open_store, run_service
from mendloop.controller.adapters.migrate import migrate
from mendloop.controller.adapters.outcomes import StoredOutcomes
from mendloop.controller.adapters.sql import SqlRuns
from mendloop.controller.handlers import Ports, handlers
from mendloop.controller.settings import ControllerSettings
from mendloop.core.contracts import CONTROLLER
from mendloop.core.errors import MendloopError
from mendloop.core.telemetry import Telemetry, log_to_stderr
from mendloop.database.engine import open_engine

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Migrate, then work until SIGTERM."""
    words = sys.argv[1:] if arguments is None else arguments
    if words not in ([], ["migrate"]):
        sys.exit(f"unknown argument(s) {' '.join(words)!r}; give none, or `migrate`")
    try:
        settings = ControllerSettings.from_environment()
        engine = open_engine(settings.database_url)
        log_to_stderr(CONTROLLER, level=settings.log_level)
        migrate(engine)
    except MendloopError as error:
        sys.exit(f"the controller cannot start: {error}")
    log.info("database is up to date", extra={"database": engine.url.render_as_string(hide_password=True)})
    if words:
        return
    store = open_store(settings.artifacts_uri)
    telemetry = Telemetry(CONTROLLER)
    ports = Ports(
        runs=SqlRuns(engine), outcomes=StoredOutcomes(store), store=store, telemetry=telemetry, clock=time.time
    )
    try:
        run_service(settings, service=CONTROLLER, handlers=handlers(ports), telemetry=telemetry)
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
