"""The SQL condition and the principal agree about every run."""

from __future__ import annotations

from itertools import product

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from mendloop.gateway.adapters.seen_runs import seen_by
from mendloop.gateway.domain.access import Principal, RunLimits, Scope

RUNS = sa.table("runs", sa.column("run_id", sa.Text), sa.column("requested_by", sa.Text))
WHO = "ci (key k1)"
NAMES = ["", "team-a-1", "TEAM-A-1", "team-ab1", "team-a-", "team_a-1", "teamXa-1", "x"]
LIMITS = [
    None,
    RunLimits(own=True),
    RunLimits(own=False, patterns=("team-a-*",)),
    RunLimits(own=True, patterns=("team-?-1", "x")),
    RunLimits(own=False, patterns=("team_a*",)),
    RunLimits(own=False, patterns=("*",)),
]


@pytest.mark.parametrize("limits", LIMITS)
def test_list_in_sql_holds_what_the_principal_may_see(limits: RunLimits | None) -> None:
    asker = Principal(WHO, Scope.READ, limits, "key:k1")
    rows = list(product(NAMES, [WHO, "", "somebody"]))
    condition = seen_by(asker, run_id=RUNS.c.run_id, started_by=RUNS.c.requested_by, dialect="sqlite")
    with sa.create_engine("sqlite://").begin() as db:
        db.exec_driver_sql("CREATE TABLE runs (run_id TEXT, requested_by TEXT)")
        db.execute(sa.insert(RUNS), [{"run_id": name, "requested_by": by} for name, by in rows])
        found = {tuple(row) for row in db.execute(sa.select(RUNS).where(condition))}
    assert found == {row for row in rows if asker.may_see(row[0], started_by=row[1])}


def test_wildcards_of_postgresql_in_a_pattern_are_letters() -> None:
    asker = Principal(WHO, Scope.READ, RunLimits(own=False, patterns=("team_a-*?",)), "key:k1")
    condition = seen_by(asker, run_id=RUNS.c.run_id, started_by=RUNS.c.requested_by, dialect="postgresql")
    text = str(condition.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
    assert r"LIKE 'team\_a-%%_'" in text.replace("\\\\", "\\")
