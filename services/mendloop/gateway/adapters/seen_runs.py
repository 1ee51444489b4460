"""Which runs exist for a principal, as an SQL condition: Principal.may_see for lists that are paged in SQL."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from mendloop.gateway.domain.access import Principal


def seen_by(
    asker: Principal, *, run_id: ColumnElement[str], started_by: ColumnElement[str], dialect: str
) -> ColumnElement[bool]:
    """True for rows of runs that they may see. dialect is `sqlite` or `postgresql`."""
    if asker.limits is None:
        return sa.true()
    ways = [_like(run_id, pattern, dialect=dialect) for pattern in asker.limits.patterns]
    if asker.limits.own and asker.who:
        ways.append(started_by == asker.who)
    return sa.and_(run_id != "", sa.or_(sa.false(), *ways))


def _like(column: ColumnElement[str], pattern: str, *, dialect: str) -> ColumnElement[bool]:
    """LIKE of SQLite takes small letters for capitals; GLOB does not, and has our wildcards."""
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(pattern)
    literal = pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return column.like(literal.replace("*", "%").replace("?", "_"), escape="\\")
