"""The tables of webhooks on SQLite and on PostgreSQL: leases, guarded writes, and a log that stays short."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from postgres import postgres_url  # noqa: F401 (a fixture)

from mendloop.database.engine import open_engine
from mendloop.gateway.adapters.hook_rows import Sealing
from mendloop.gateway.adapters.hook_store import HookStore
from mendloop.gateway.adapters.hook_tables import hooks
from mendloop.gateway.adapters.migrate import migrate
from mendloop.gateway.domain.hooks import Answer, Attempt, Hook, Progress, Secret, Wanted

HOOK = Hook(
    "wh_1",
    "https://h/",
    "alerts",
    "event",
    Wanted(types=("EvalFailed",)),
    (Secret("whsec_a", 9.5),),
    1.0,
    1.0,
    Progress("c0"),
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HookStore]:
    url = f"sqlite:///{tmp_path / 'g.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    migrate(engine)
    migrate(engine)  # a second replica starts
    with engine.begin() as db:
        db.execute(hooks.delete())
    yield HookStore(engine, sealing=Sealing(), keep_attempts=3)
    engine.dispose()


def _attempt(n: int, *, hook_id: str = "wh_1") -> Attempt:
    return Attempt(hook_id, f"e{n}", "mendloop.v1.EvalFailed", "r1", float(n), 1, "delivered", Answer(204, 0.1))


def test_hook_comes_back_as_it_was_written(store: HookStore) -> None:
    assert store.add(HOOK, limit=1) == HOOK
    assert store.add(replace(HOOK, hook_id="wh_2"), limit=1) is None
    assert store.find("wh_1") == HOOK
    assert store.page(after="", limit=5) == [HOOK]
    changed = store.change("wh_1", lambda hook: replace(hook, description="new"))
    assert changed == replace(HOOK, description="new", version=2)
    assert store.change("nobody", lambda hook: hook) is None


def test_one_id_is_one_hook_whoever_else_creates_it(store: HookStore) -> None:
    asked = [replace(HOOK, secrets=(Secret(f"whsec_{n}"),), request_digest="d") for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda hook: store.add(hook, limit=9), asked))
    assert set(made) == {store.find("wh_1")}
    assert store.add(replace(HOOK, description="late"), limit=1) == made[0]


def test_lease_is_one_owners_until_it_ends_or_is_given_back(store: HookStore) -> None:
    store.add(HOOK, limit=9)
    assert store.lease("a", now=10.0, until=25.0) == {"wh_1": 1}
    assert store.lease("b", now=20.0, until=35.0) == {}
    assert store.lease("a", now=20.0, until=35.0) == {"wh_1": 1}
    assert store.lease("b", now=36.0, until=50.0) == {"wh_1": 1}
    assert store.lease("a", now=37.0, until=50.0) == {}
    store.release("b")
    assert store.lease("a", now=38.0, until=50.0) == {"wh_1": 1}


def test_late_write_changes_nothing_for_another_owner_or_version(store: HookStore) -> None:
    store.add(HOOK, limit=9)
    store.lease("a", now=10.0, until=25.0)
    moved = Progress("c1", delivered_count=1)
    assert store.write("a", progress={("wh_1", 1): moved}) == set()
    assert store.write("b", progress={("wh_1", 1): Progress("stolen")}) == {"wh_1"}
    store.change("wh_1", lambda hook: replace(hook, progress=Progress("rewound")))
    assert store.write("a", progress={("wh_1", 1): Progress("late")}) == {"wh_1"}
    found = store.find("wh_1")
    assert found is not None
    assert found.progress.cursor == "rewound"


def test_disabled_hook_is_nobodys_and_is_counted(store: HookStore) -> None:
    store.add(HOOK, limit=9)
    store.add(replace(HOOK, hook_id="wh_2", progress=Progress("c", is_enabled=False)), limit=9)
    store.add(replace(HOOK, hook_id="wh_3", progress=Progress("c", attempt=2, failing_since=1.0)), limit=9)
    assert store.lease("a", now=10.0, until=25.0).keys() == {"wh_1", "wh_3"}
    assert store.counts() == (1, 1, 1)


def test_log_keeps_the_newest_and_goes_with_its_hook(store: HookStore) -> None:
    store.add(HOOK, limit=9)
    store.write("a", progress={}, tried=[*map(_attempt, range(5)), _attempt(9, hook_id="deleted")])
    rows = store.attempts("wh_1", before=None, limit=10)
    assert [attempt for _, attempt in rows] == [_attempt(4), _attempt(3), _attempt(2)]
    assert [a.event_id for _, a in store.attempts("wh_1", before=rows[0][0], limit=1)] == ["e3"]
    assert store.remove("wh_1")
    assert not store.remove("wh_1")
    assert store.attempts("wh_1", before=None, limit=10) == []
