"""Two runs of two rounds at once over the embedded bus: the controller is real, the other services say what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from controller_world import BETTER, WEAK, World
from other_services import Others, working

from mendloop.bus.local import LocalBus
from mendloop.controller.adapters.migrate import migrate
from mendloop.controller.adapters.sql import SqlRuns
from mendloop.controller.handlers import handlers
from mendloop.core.contracts import CONTROLLER, all_topics
from mendloop.core.events import envelope_for
from mendloop.database.engine import open_engine
from mendloop.runs.log import RunLog

pytestmark = pytest.mark.integration
DEADLINE_S = 120.0
RIGHT = (WEAK, {**BETTER, "jump": 55}, {**BETTER, "jump": 95})
"""Right items a verb on the base and after each round."""


def test_two_runs_of_two_rounds_promote_twice_each(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    engine = open_engine(f"sqlite:///{tmp_path}/controller.db")
    migrate(engine)
    worlds = {
        name: World(tmp_path / "store", runs=SqlRuns(engine), run_id=name, rounds=2, clock=time.time)
        for name in ("run-a", "run-b")
    }
    first, second = worlds.values()
    first.outcomes.tables = second.outcomes.tables  # tables are named by content; one controller reads both
    others = Others(worlds, right=dict.fromkeys(worlds, RIGHT))
    tables = {**others.table(), CONTROLLER: handlers(second.ports)}
    log = RunLog(bus)
    with working(bus, tmp_path, tables):
        for world in worlds.values():
            request = world.requested()
            event_id = f"request-{world.run_id}"
            bus.publish([envelope_for(request, event_id=event_id, source="gateway", key=world.run_id)])
        _await(lambda: all(_finished(log, name) for name in worlds))
    for name in worlds:
        view = log.view(name)
        assert view is not None
        assert view.outcome == "promoted", view.summary
        assert [part.decision.promoted for part in view.rounds if part.decision] == [True, True]
        assert [sum(i.example_count for i in part.plan.items) for part in view.rounds if part.plan] == [32, 32]
        assert not view.dead_letters
    engine.dispose()


def _finished(log: RunLog, name: str) -> bool:
    log.refresh()
    view = log.view(name)
    return view is not None and view.is_finished


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the runs did not finish"
        time.sleep(0.05)
