"""The controller's state on SQLite and on a real PostgreSQL: migrations, exactly-once effect, replicas side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from controller_world import BETTER, RUN, WEAK, MemoryRuns, World, names, of, only, sealed_counts
from postgres import postgres_url  # noqa: F401  (the session's server)
from sqlalchemy import func, inspect, select, text

from mendloop.bus.runtime import Emit, Event
from mendloop.controller.adapters import tables
from mendloop.controller.adapters.migrate import migrate
from mendloop.controller.adapters.sql import SqlRuns
from mendloop.controller.domain.budget import reserve, settle, shortage, spent
from mendloop.controller.domain.records import RunState
from mendloop.controller.ports import Elsewhere
from mendloop.core.errors import InvalidRecipe, Retryable
from mendloop.core.recipe import BudgetSettings
from mendloop.database.engine import open_engine
from mendloop.v1 import intervention_pb2, loop_pb2

pytestmark = pytest.mark.integration
DEADLINE_S = 60.0
RSS_LIMIT_MB = 150


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/controller.db"
    server = request.getfixturevalue("postgres_url")
    engine = open_engine(server)
    name = f"t{abs(hash(request.node.nodeid)):x}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return str(server).replace("@/postgres?", f"@/{name}?")


@pytest.fixture
def url(empty_url: str) -> str:
    """A migrated database."""
    engine = open_engine(empty_url)
    migrate(engine)
    engine.dispose()
    return empty_url


@pytest.fixture
def runs(url: str) -> Iterator[SqlRuns]:
    engine = open_engine(url)
    yield SqlRuns(engine)
    engine.dispose()


def test_models_and_migrations_agree(url: str) -> None:
    engine = open_engine(url)
    options = {"compare_type": True, "version_table": "controller_schema"}
    with engine.begin() as db:
        assert compare_metadata(MigrationContext.configure(db, opts=options), tables.metadata) == []
    assert set(tables.metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_replicas_that_start_at_once_migrate_once(empty_url: str) -> None:
    environment = {**os.environ, "MENDLOOP_DATABASE_URL": empty_url}
    command = [sys.executable, "-m", "mendloop.controller", "migrate"]
    replicas = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    complaints = [replica.communicate(timeout=DEADLINE_S)[1] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0, 0], complaints
    engine = open_engine(empty_url)
    with engine.begin() as db:
        assert db.execute(text("SELECT version_num FROM controller_schema")).scalars().all() == ["0005"]
    engine.dispose()


def _play(world: World) -> None:
    """A data round that people approved and reviewed and the gates promoted: every kind of record is written."""
    base_ready = world.base_ready(report=world.report())
    base = world.evaluated(base_ready, WEAK, weak=1)
    out = world.send(world.requested(), base_ready, base, world.diagnosed(base))
    question = only(out, loop_pb2.ApprovalRequested)
    answer = loop_pb2.ApprovalGiven(position=question.position, plan_id=question.plan_id, approved=True)
    plan = only(world.send(answer), intervention_pb2.InterventionPlanned)
    world.send(world.batched(plan), world.reviewed(plan))
    ready = world.candidate_ready(plan)
    world.send(ready, world.evaluated(ready, BETTER, sealed=sealed_counts()))


def test_run_in_sql_is_the_run_in_memory(runs: SqlRuns, tmp_path: Path) -> None:
    memory = World(tmp_path / "store", runs=MemoryRuns(), approval=True, review=True)
    stored = World(tmp_path / "store", runs=runs, approval=True, review=True)
    _play(memory)
    _play(stored)
    state = runs.load(RUN)
    assert stored.emitted == memory.emitted
    assert _unordered(state) == _unordered(memory.state())


def _play_arms(world: World) -> None:
    """A data round beside which one control is compared and one diverges."""
    plan = world.until_plan()
    compared, diverged = of(world.send(world.batched(plan)), intervention_pb2.InterventionPlanned)
    world.send(world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts()))
    world.send(world.batched(compared), world.evaluated(world.candidate_ready(compared), WEAK))
    world.send(world.batched(diverged), world.diverged(diverged))


def test_control_arms_in_sql_are_those_in_memory(runs: SqlRuns, url: str, tmp_path: Path) -> None:
    arms = {"arms": ["random", "directly-sampled"]}
    memory, stored = World(tmp_path / "store", **arms), World(tmp_path / "store", runs=runs, **arms)
    _play_arms(memory)
    _play_arms(stored)
    assert stored.emitted == memory.emitted
    assert _unordered(runs.load(RUN)) == _unordered(memory.state())
    engine = open_engine(url)
    with engine.begin() as db:
        target = (
            db.execute(select(tables.arm_differences).where(tables.arm_differences.c.position == 1)).mappings().one()
        )
    engine.dispose()
    assert (target["conditions"], target["n"], target["only_main"]) == ([["verb", "jump"]], 100, 78)
    assert target["p_value"] < 1e-20


def test_decision_is_stored_with_every_gates_numbers(runs: SqlRuns, url: str, tmp_path: Path) -> None:
    _play(World(tmp_path / "store", runs=runs, approval=True, review=True))
    engine = open_engine(url)
    with engine.begin() as db:
        gate = db.execute(select(tables.gates).where(tables.gates.c.gate == "target_improves")).mappings().one()
        decision = db.execute(select(tables.rounds.c.decision)).scalar_one()
    engine.dispose()
    assert decision == "promoted"
    assert (gate["n"], gate["before"], gate["after"], gate["passed"]) == (100, 0.02, 0.8, True)
    assert gate["p_value"] < 1e-12


def test_redelivered_event_gives_the_stored_outputs_and_touches_nothing(runs: SqlRuns, tmp_path: Path) -> None:
    world = World(tmp_path / "store", runs=runs)
    plan = world.until_plan()
    before = runs.load(RUN)
    again = world.deliver(world.sent[-1])
    assert only(again, intervention_pb2.InterventionPlanned) == plan
    assert runs.load(RUN) == before


def test_change_that_fails_leaves_nothing(runs: SqlRuns) -> None:
    def fail(state: RunState, _: Elsewhere) -> tuple[RunState, list[Emit]]:
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError):
        runs.apply(RUN, event_id="e1", event_type="t", now=1.0, change=fail)
    assert runs.load(RUN) is None
    assert runs.apply(RUN, event_id="e1", event_type="t", now=1.0, change=lambda state, _: (state, [])) == []


def _deliver_in_threads(url: str, world: World, deliveries: list[Event]) -> list[list[Emit]]:
    """Each delivery by a replica with an engine of its own, all at the same moment."""
    start = threading.Barrier(len(deliveries))

    def replica(event: Event) -> list[Emit]:
        engine = open_engine(url)
        mine = World(Path(str(world.store._root)), runs=SqlRuns(engine))
        mine.outcomes.tables.update(world.outcomes.tables)
        start.wait(timeout=DEADLINE_S)
        try:
            return mine.deliver(event)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(len(deliveries)) as pool:
        return list(pool.map(replica, deliveries))


def _weak_in(world: World, count: int) -> list[Event]:
    """A run whose base has that many weak slices; the diagnoses that are still to come."""
    base = world.evaluated(world.base_ready(), WEAK, weak=count)
    world.send(world.requested(), base)
    return [world.event(world.diagnosed(base, (("length", str(i)),))) for i in range(count)]


def test_replicas_with_different_events_of_one_run_plan_once(runs: SqlRuns, url: str, tmp_path: Path) -> None:
    world = World(tmp_path / "store", runs=runs)
    outputs = _deliver_in_threads(url, world, _weak_in(world, 6))
    assert len(of([emit for out in outputs for emit in out], intervention_pb2.InterventionPlanned)) == 1
    state = runs.load(RUN)
    assert state is not None
    assert len(state.diagnoses) == 6
    assert len(state.plans) == 1


def test_replicas_with_the_same_event_give_the_same_outputs(runs: SqlRuns, url: str, tmp_path: Path) -> None:
    world = World(tmp_path / "store", runs=runs)
    (last,) = _weak_in(world, 1)
    outputs = _deliver_in_threads(url, world, [last] * 4)
    assert [names(out) for out in outputs] == [["InterventionPlanned"]] * 4
    assert all(out == outputs[0] for out in outputs)


def test_runs_that_ask_the_same_sealed_items_at_once_share_one_budget(url: str, tmp_path: Path) -> None:
    engine = open_engine(url)
    rules = {"gates": {"sealed_queries": 1}}
    worlds = [World(tmp_path / "store", runs=SqlRuns(engine), run_id=f"run-{i}", **rules) for i in range(4)]
    measured = []
    for world in worlds:
        plan = world.until_plan()
        world.send(world.batched(plan))
        measured.append(world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts()))
    start = threading.Barrier(len(worlds))

    def judge(at: int) -> list[str]:
        start.wait(timeout=DEADLINE_S)
        return names(worlds[at].send(measured[at]))

    with ThreadPoolExecutor(len(worlds)) as pool:
        decided = [emitted[0] for emitted in pool.map(judge, range(len(worlds)))]
    engine.dispose()
    assert sorted(decided) == ["CheckpointPromoted"] + 3 * ["CheckpointRejected"]


WORKERS = 8
REQUESTS = {"train_tokens": 90.0, "gpu_s": 0.5}
LIMIT = BudgetSettings(new_examples=100, train_tokens=1000, gpu_s=50.0)


def _spend_in_turns(runs: SqlRuns, worker: int, start: threading.Barrier) -> int:
    """Plan after plan of 90 tokens: reserved where it fits, settled with less or more; the plans that fitted."""
    fitted = 0
    start.wait(timeout=DEADLINE_S)
    for number in range(6):
        plan_id = f"plan-{worker}-{number}"

        def reserved(state: RunState, _: Elsewhere, name: str = plan_id) -> tuple[RunState, list[Emit]]:
            if shortage(state.reservations, LIMIT, requests=REQUESTS, elapsed_s=0) is not None:
                return state, []
            return replace(state, reservations=(*state.reservations, *reserve(name, REQUESTS))), []

        def settled(state: RunState, _: Elsewhere, name: str = plan_id) -> tuple[RunState, list[Emit]]:
            rows = settle(state.reservations, name, metered={"train_tokens": 60.0, "gpu_s": 0.5})
            return replace(state, reservations=rows), []

        for step, change in (("reserve", reserved), ("settle", settled)):
            runs.apply(RUN, event_id=f"{plan_id}-{step}", event_type="t", now=1.0, change=change)
            state = runs.load(RUN)
            assert state is not None
            assert spent(state.reservations, "train_tokens") <= LIMIT.train_tokens
            fitted += step == "reserve" and any(row.plan_id == plan_id for row in state.reservations)
    return fitted


def test_eight_workers_at_once_never_spend_more_than_the_budget(url: str) -> None:
    engine = open_engine(url)
    start = threading.Barrier(WORKERS)
    with ThreadPoolExecutor(WORKERS) as pool:
        fitted = sum(pool.map(lambda worker: _spend_in_turns(SqlRuns(engine), worker, start), range(WORKERS)))
    state = SqlRuns(engine).load(RUN)
    engine.dispose()
    assert state is not None
    assert {row.is_settled for row in state.reservations} == {True}
    assert spent(state.reservations, "train_tokens") == 60 * fitted
    # settled plans make room: as many fit as leave less than one reservation of the limit
    assert LIMIT.train_tokens - 90 < spent(state.reservations, "train_tokens") <= LIMIT.train_tokens


def _child(target: Callable[..., None], *arguments: Any) -> Any:
    child = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    child.start()
    return child


def _deliver_in_process(url: str, root: str, event: Event) -> None:
    engine = open_engine(url)
    World(Path(root), runs=SqlRuns(engine)).deliver(event)
    engine.dispose()


def test_processes_with_different_events_of_one_run_plan_once(runs: SqlRuns, url: str, tmp_path: Path) -> None:
    world = World(tmp_path / "store", runs=runs)
    events = _weak_in(world, 4)
    children = [_child(_deliver_in_process, url, str(world.store._root), event) for event in events]
    for child in children:
        child.join(timeout=DEADLINE_S)
    assert [child.exitcode for child in children] == [0] * 4
    engine = open_engine(url)
    with engine.begin() as db:
        planned = db.execute(select(tables.handled_events.c.outputs)).scalars().all()
        count = db.execute(select(func.count()).select_from(tables.plans)).scalar_one()
    engine.dispose()
    assert count == 1
    assert [row["type"] for outputs in planned for row in outputs] == ["mendloop.v1.InterventionPlanned"]


def _hang_inside(url: str, marker: str) -> None:
    def change(state: RunState, _: Elsewhere) -> tuple[RunState, list[Emit]]:
        Path(marker).touch()
        signal.pause()
        return state, []

    SqlRuns(open_engine(url)).apply(RUN, event_id="e1", event_type="t", now=1.0, change=change)


def test_replica_that_is_killed_inside_its_transaction_leaves_nothing_and_blocks_nobody(
    runs: SqlRuns, url: str, tmp_path: Path
) -> None:
    marker = tmp_path / "inside"
    child = _child(_hang_inside, url, str(marker))
    _await(marker.exists)
    os.kill(child.pid, signal.SIGKILL)
    child.join(timeout=DEADLINE_S)
    assert runs.apply(RUN, event_id="e1", event_type="t", now=2.0, change=lambda state, _: (state, [])) == []
    state = runs.load(RUN)
    assert state is not None
    assert state.run.started_at == 2.0


def test_locked_sqlite_is_retried_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/controller.db"
    engine = open_engine(url, busy_timeout_s=0.05)
    migrate(engine)
    other = sqlite3.connect(tmp_path / "controller.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Retryable, match="locked"):
        SqlRuns(engine).apply(RUN, event_id="e1", event_type="t", now=1.0, change=lambda state, _: (state, []))
    other.close()
    engine.dispose()


def test_postgresql_that_is_away_is_retried_later(tmp_path: Path) -> None:
    engine = open_engine(f"postgresql://postgres@/postgres?host={tmp_path}")
    with pytest.raises(Retryable, match="busy or away"):
        SqlRuns(engine).load(RUN)


def test_other_databases_are_refused_by_name() -> None:
    with pytest.raises(InvalidRecipe, match="mysql"):
        open_engine("mysql://somewhere/db")


def test_idle_service_is_ready_stays_small_and_stops_on_sigterm(url: str, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    environment = {
        **os.environ,
        "MENDLOOP_DATABASE_URL": url,
        "MENDLOOP_BUS": f"local:{tmp_path}/bus.db",
        "MENDLOOP_ARTIFACTS_URI": str(tmp_path / "artifacts"),
        "MENDLOOP_METRICS_PORT_FILE": str(port_file),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with subprocess.Popen([sys.executable, "-m", "mendloop.controller"], env=environment) as service:
        try:
            _await(lambda: port_file.exists() and bool(port_file.read_text()) and _is_ready(port_file.read_text()))
            status = Path(f"/proc/{service.pid}/status").read_text()
        finally:
            service.terminate()
        assert service.wait(timeout=DEADLINE_S) == 0
    rss_mb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    assert rss_mb < RSS_LIMIT_MB


def _is_ready(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def _unordered(state: RunState | None) -> dict[str, object]:
    assert state is not None
    parts = {name: getattr(state, name) for name in RunState.__dataclass_fields__}
    return {name: frozenset(part) if isinstance(part, tuple) else part for name, part in parts.items()}
