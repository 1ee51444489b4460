"""Webhooks in SQL: what people change, the leases of replicas, and what deliveries write. Knows rows; sends nothing.

A hook is delivered by the replica that holds its lease. What a delivery writes counts only while the lease is held and
the hook's version is the one that the replica loaded; so a person's change is never overwritten by an older delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace

from sqlalchemy import Connection, Engine, case, delete, func, or_, select, update
from sqlalchemy import insert as plain_insert

from mendloop.database.engine import insert, reading, retryable
from mendloop.gateway.adapters.hook_rows import Sealing, attempt_of, attempt_values, hook_of, hook_values
from mendloop.gateway.adapters.hook_tables import attempts, hooks
from mendloop.gateway.domain.hooks import Attempt, Hook, Progress

KEEP_ATTEMPTS = 1_000


class HookStore:
    """The tables of webhooks. Every method is one transaction; Retryable where the database is busy or away."""

    def __init__(self, engine: Engine, *, sealing: Sealing, keep_attempts: int = KEEP_ATTEMPTS) -> None:
        self._engine, self._sealing, self._keep_attempts = engine, sealing, keep_attempts
        self._untrimmed: Counter[str] = Counter()

    def add(self, hook: Hook, *, limit: int) -> Hook | None:
        """Write a new hook; the one that has its id already, and None where there are as many as the limit says."""
        known = select(hooks).where(hooks.c.hook_id == hook.hook_id)
        values = hook_values(hook, sealing=self._sealing)
        with retryable(), self._engine.begin() as db:
            if (row := db.execute(known).one_or_none()) is not None:
                return hook_of(row, sealing=self._sealing)
            count = db.execute(select(func.count()).select_from(hooks)).scalar_one()
            if count >= limit:
                return None
            # Another replica may have written the same id since we looked; on PostgreSQL this waits for it.
            db.execute(insert(db, hooks).values(values).on_conflict_do_nothing())
            return hook_of(db.execute(known).one(), sealing=self._sealing)

    def find(self, hook_id: str) -> Hook | None:
        """A hook."""
        with retryable(), reading(self._engine).begin() as db:
            row = db.execute(select(hooks).where(hooks.c.hook_id == hook_id)).one_or_none()
        return None if row is None else hook_of(row, sealing=self._sealing)

    def page(self, *, after: str, limit: int) -> list[Hook]:
        """Hooks by id, after one."""
        asked = select(hooks).where(hooks.c.hook_id > after).order_by(hooks.c.hook_id).limit(limit)
        with retryable(), reading(self._engine).begin() as db:
            rows = db.execute(asked).all()
        return [hook_of(row, sealing=self._sealing) for row in rows]

    def change(self, hook_id: str, edit: Callable[[Hook], Hook]) -> Hook | None:
        """Write what edit makes of the hook, as its next version; None where there is no such hook.

        Whoever delivers it loads it again before the next event.
        """
        with retryable(), self._engine.begin() as db:
            asked = select(hooks).where(hooks.c.hook_id == hook_id).with_for_update()
            row = db.execute(asked).one_or_none()
            if row is None:
                return None
            known = hook_of(row, sealing=self._sealing)
            changed = replace(edit(known), version=known.version + 1)
            db.execute(
                update(hooks).where(hooks.c.hook_id == hook_id).values(hook_values(changed, sealing=self._sealing))
            )
        return changed

    def remove(self, hook_id: str) -> bool:
        """Delete a hook with its log; False where there is none."""
        with retryable(), self._engine.begin() as db:
            return bool(db.execute(delete(hooks).where(hooks.c.hook_id == hook_id)).rowcount)

    def attempts(self, hook_id: str, *, before: int | None, limit: int) -> list[tuple[int, Attempt]]:
        """The log of a hook with its row numbers, newest first, from before a row on."""
        asked = select(attempts).where(attempts.c.hook_id == hook_id)
        if before is not None:
            asked = asked.where(attempts.c.attempt_id < before)
        with retryable(), reading(self._engine).begin() as db:
            rows = db.execute(asked.order_by(attempts.c.attempt_id.desc()).limit(limit)).all()
        return [(row.attempt_id, attempt_of(row)) for row in rows]

    def counts(self) -> tuple[int, int, int]:
        """How many hooks deliver, fail at the moment, and are disabled."""
        fails = case((or_(hooks.c.attempt > 0, hooks.c.refused_count > 0), 1), else_=0).label("fails")
        asked = select(hooks.c.is_enabled, fails, func.count()).group_by(hooks.c.is_enabled, fails)
        with retryable(), reading(self._engine).begin() as db:
            found = {(bool(enabled), bool(failing)): count for enabled, failing, count in db.execute(asked)}
        disabled = sum(count for (enabled, _), count in found.items() if not enabled)
        return found.get((True, False), 0), found.get((True, True), 0), disabled

    def lease(self, owner: str, *, now: float, until: float) -> dict[str, int]:
        """Renew what the owner holds and take what nobody holds; the version of each hook that is its own now."""
        mine_or_free = or_(hooks.c.lease_owner == owner, hooks.c.lease_until < now)
        with retryable(), self._engine.begin() as db:
            db.execute(
                update(hooks).where(hooks.c.is_enabled, mine_or_free).values(lease_owner=owner, lease_until=until)
            )
            rows = db.execute(
                select(hooks.c.hook_id, hooks.c.version).where(hooks.c.lease_owner == owner, hooks.c.is_enabled)
            )
            return {row.hook_id: row.version for row in rows}

    def release(self, owner: str) -> None:
        """Let everything go that the owner holds."""
        with retryable(), self._engine.begin() as db:
            db.execute(update(hooks).where(hooks.c.lease_owner == owner).values(lease_owner="", lease_until=0.0))

    def write(
        self, owner: str, *, progress: Mapping[tuple[str, int], Progress], tried: Iterable[Attempt] = ()
    ) -> set[str]:
        """Write progress by hook and version, and attempts; the hooks that are no longer the owner's in this version.

        Attempts are written anyway, for they happened; only those of deleted hooks are left out.
        """
        lost: set[str] = set()
        with retryable(), self._engine.begin() as db:
            for (hook_id, version), at in progress.items():
                mine = (hooks.c.hook_id == hook_id, hooks.c.lease_owner == owner, hooks.c.version == version)
                if not db.execute(update(hooks).where(*mine).values(asdict(at))).rowcount:
                    lost.add(hook_id)
            rows = [attempt_values(attempt) for attempt in tried]
            named = Counter(row["hook_id"] for row in rows)
            known = set(db.execute(select(hooks.c.hook_id).where(hooks.c.hook_id.in_(list(named)))).scalars())
            if kept := [row for row in rows if row["hook_id"] in known]:
                db.execute(plain_insert(attempts), kept)
            for hook_id in known:
                self._trim(db, hook_id, named[hook_id])
        return lost

    def _trim(self, db: Connection, hook_id: str, written: int) -> None:
        """Keep the newest attempts. Finding the oldest reads as many rows, so it is done for every tenth part."""
        self._untrimmed[hook_id] += written
        if self._untrimmed[hook_id] <= self._keep_attempts // 10:
            return
        self._untrimmed[hook_id] = 0
        oldest = (
            select(attempts.c.attempt_id)
            .where(attempts.c.hook_id == hook_id)
            .order_by(attempts.c.attempt_id.desc())
            .offset(self._keep_attempts)
            .limit(1)
            .scalar_subquery()
        )
        db.execute(delete(attempts).where(attempts.c.hook_id == hook_id, attempts.c.attempt_id <= oldest))
