"""The embedded bus: a durable log in one SQLite file, shared by many processes on one machine.

Partitions are leased to group members; a member that dies loses its leases after lease_s and another goes on from the
committed offset. Outputs and the consumed offset go in one SQLite transaction, so kill -9 leaves all or nothing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mendloop.bus.base import Backlog, Cursor, Delivery, joined
from mendloop.bus.bells import Bell, ring
from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope

LEASE_S = 5.0
MIN_POLL_INTERVAL_S = 0.005
MAX_POLL_INTERVAL_S = 0.05
LOOK_AGAIN_S = 0.5
BUSY_TIMEOUT_S = 30.0
DEFAULT_PARTITION_COUNT = 8

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (topic TEXT PRIMARY KEY, partition_count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  topic TEXT NOT NULL, part INTEGER NOT NULL, pos INTEGER NOT NULL,
  key TEXT NOT NULL, value BLOB NOT NULL, headers TEXT NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (topic, part, pos)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_seq ON events (seq);
CREATE TABLE IF NOT EXISTS ends (topic TEXT, part INTEGER, next_pos INTEGER NOT NULL,
  PRIMARY KEY (topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (grp TEXT, topic TEXT, part INTEGER, next_pos INTEGER NOT NULL,
  PRIMARY KEY (grp, topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (grp TEXT, topic TEXT, part INTEGER, member TEXT NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (grp, topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('seq', 0);
"""


class LocalBus:
    """A bus in one SQLite file.

    WAL with synchronous=NORMAL: survives a killed process; a power cut may lose the last commits.
    """

    def __init__(
        self, path: Path | str, *, partition_count: int = DEFAULT_PARTITION_COUNT, lease_s: float = LEASE_S
    ) -> None:
        if partition_count < 1:
            raise ValueError(f"partition_count is {partition_count}; it must be at least 1")
        self._path = Path(path)
        self.lease_s = lease_s
        self._partition_count = partition_count
        self._thread = threading.local()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._bells = self._path.with_name(f"{self._path.name}-bells")
        with self._transaction() as db:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    db.execute(statement)

    def ensure_topics(self, topics: Iterable[str]) -> None:
        """Create the topics that do not exist."""
        with self._transaction() as db:
            for topic in topics:
                self._ensure(db, topic)

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Append all events or none."""
        with self._transaction() as db:
            self._append(db, envelopes)
        self.ring()

    def bell(self) -> Bell:
        """A bell that rings after commits that give somebody work."""
        return Bell(self._bells)

    def ring(self) -> None:
        """Wake all members and readers that wait, in all processes."""
        ring(self._bells)

    def consumer(self, group: str, topics: Sequence[str], *, member: str) -> LocalConsumer:
        """Join a group; a group that is new starts at the oldest event."""
        self.ensure_topics(topics)
        return LocalConsumer(self, group=group, topics=tuple(topics), member=member)

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Committed events from the cursor on, in the order in which they were committed, at most limit."""
        version = _version(self._connection())
        asked = (version, tuple(topics), cursor or {})
        if asked == getattr(self._thread, "found_nothing", None):
            return []
        found = self._read(topics, cursor=cursor, limit=limit)
        self._thread.found_nothing = None if found else (version, tuple(topics), joined(cursor or {}, {}))
        return found

    def _read(self, topics: Sequence[str], *, cursor: Cursor | None, limit: int) -> list[Delivery]:
        clauses: list[str] = []
        values: list[object] = []
        for topic in topics:
            starts = {p: n for p, n in (cursor or {}).get(topic, {}).items() if n > 0}
            clauses += ["(topic = ? AND part = ? AND pos >= ?)" for _ in starts]
            for part, start in starts.items():
                values += [topic, part, start]
            known = ",".join("?" for _ in starts)
            clauses.append(f"(topic = ? AND part NOT IN ({known}))")
            values += [topic, *starts]
        first = self._first_unread(topics, cursor or {})
        if first is None:
            return []
        rows = self._connection().execute(
            f"SELECT topic, part, pos, key, value, headers FROM events WHERE seq >= ? AND ({' OR '.join(clauses)})"
            " ORDER BY seq LIMIT ?",
            (first, *values, limit),
        )
        return [_delivery(row) for row in rows]

    def _first_unread(self, topics: Sequence[str], cursor: Cursor) -> int | None:
        """The lowest seq that a cursor has not passed, so that a read starts there and not at the oldest event."""
        db = self._connection()
        marks = ",".join("?" for _ in topics)
        ends = db.execute(f"SELECT topic, part, next_pos FROM ends WHERE topic IN ({marks})", tuple(topics)).fetchall()
        starts = [(topic, part, max(0, cursor.get(topic, {}).get(part, 0)), end) for topic, part, end in ends]
        found = [
            db.execute("SELECT seq FROM events WHERE topic = ? AND part = ? AND pos = ?", (topic, part, start))
            for topic, part, start, end in starts
            if start < end
        ]
        return min((int(row.fetchone()[0]) for row in found), default=None)

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Committed events that the group has not completed."""
        marks = ",".join("?" for _ in topics)
        row = self._connection().execute(
            "SELECT COALESCE(SUM(e.next_pos - COALESCE(o.next_pos, 0)), 0) FROM ends e LEFT JOIN offsets o"
            f" ON o.grp = ? AND o.topic = e.topic AND o.part = e.part WHERE e.topic IN ({marks})",
            (group, *topics),
        )
        return int(row.fetchone()[0])

    def backlog(self, group: str, topics: Sequence[str]) -> Backlog:
        """The same with the oldest of these events; unlike lag, an error of the file is Retryable."""
        try:
            count = self.lag(group, topics)
            oldest = self._oldest(group, topics) if count else None
        except sqlite3.OperationalError as error:
            raise Retryable(f"the bus file {self._path} cannot be read: {error}") from error
        return Backlog(count, oldest)

    def _oldest(self, group: str, topics: Sequence[str]) -> Delivery | None:
        marks = ",".join("?" for _ in topics)
        row = self._connection().execute(
            "SELECT v.topic, v.part, v.pos, v.key, v.value, v.headers FROM ends e"
            " LEFT JOIN offsets o ON o.grp = ? AND o.topic = e.topic AND o.part = e.part"
            " JOIN events v ON v.topic = e.topic AND v.part = e.part AND v.pos = COALESCE(o.next_pos, 0)"
            f" WHERE e.topic IN ({marks}) ORDER BY v.seq LIMIT 1",
            (group, *topics),
        )
        found = row.fetchone()
        return _delivery(found) if found else None

    def close(self) -> None:
        """Close this thread's connection."""
        db: sqlite3.Connection | None = getattr(self._thread, "db", None)
        if db is not None:
            db.close()
            self._thread.db = self._thread.found_nothing = None

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._thread, "db", None)
        if db is None:
            db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            self._thread.db = db
        return db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection()
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk may have rolled back already
                    db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise Retryable(
                f"the bus file {self._path} cannot be written: {error}; check free space and that no process holds it"
                f" (waited up to {BUSY_TIMEOUT_S:.0f} s)"
            ) from error

    def _ensure(self, db: sqlite3.Connection, topic: str) -> int:
        db.execute("INSERT OR IGNORE INTO topics VALUES (?, ?)", (topic, self._partition_count))
        row = db.execute("SELECT partition_count FROM topics WHERE topic = ?", (topic,)).fetchone()
        for part in range(row[0]):
            db.execute("INSERT OR IGNORE INTO ends VALUES (?, ?, 0)", (topic, part))
        return int(row[0])

    def _append(self, db: sqlite3.Connection, envelopes: Sequence[Envelope]) -> None:
        counts: dict[str, int] = {}
        for envelope in envelopes:
            topic = envelope.topic
            if topic not in counts:
                row = db.execute("SELECT partition_count FROM topics WHERE topic = ?", (topic,)).fetchone()
                counts[topic] = int(row[0]) if row else self._ensure(db, topic)
            part = zlib.crc32(envelope.key.encode()) % counts[topic]
            pos = db.execute(
                "UPDATE ends SET next_pos = next_pos + 1 WHERE topic = ? AND part = ? RETURNING next_pos - 1",
                (topic, part),
            ).fetchone()[0]
            seq = db.execute("UPDATE counters SET value = value + 1 WHERE name = 'seq' RETURNING value").fetchone()[0]
            db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
                (topic, part, pos, envelope.key, envelope.value, json.dumps(envelope.headers), seq),
            )


class LocalConsumer:
    """A group member that takes one partition's lease at a time."""

    def __init__(self, bus: LocalBus, *, group: str, topics: tuple[str, ...], member: str) -> None:
        self._bus, self._group, self._topics, self._member = bus, group, topics, member
        self._held: tuple[str, int] | None = None
        self._deferred: dict[tuple[str, int], float] = {}
        self._seen = (-1, -1)
        self._look_at = 0.0
        self._worked_at = time.monotonic()
        self._bell = bus.bell()

    def poll(self, *, timeout_s: float) -> Delivery | None:
        """The next event of a partition that nobody else holds, or None after the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            delivery = self._take() if self._may_have_work() else None
            if delivery is not None:
                self._worked_at = time.monotonic()
                return delivery
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._wait(left)

    def _wait(self, left_s: float) -> None:
        """Until somebody rings, and no longer than until a lease may have run out or a deferred event falls due."""
        if self._bell.can_ring:
            self._bell.wait(max(0.0, min(left_s, self._look_at - time.time())))
            return
        # A busy consumer looks often; one without work for a second looks 20 times a second.
        idle_s = time.monotonic() - self._worked_at
        time.sleep(min(left_s, MAX_POLL_INTERVAL_S, max(MIN_POLL_INTERVAL_S, idle_s * MAX_POLL_INTERVAL_S)))

    def complete(self, delivery: Delivery, *, outputs: Sequence[Envelope] = ()) -> None:
        """Publish the outputs and move past the delivery in one transaction; Retryable where the lease was lost."""
        place = (self._group, delivery.topic, delivery.partition)
        with self._bus._transaction() as db:
            row = db.execute("SELECT member FROM leases WHERE grp = ? AND topic = ? AND part = ?", place).fetchone()
            if row is None or row[0] != self._member:
                raise Retryable(
                    f"{self._member} lost its lease on {delivery.topic}/{delivery.partition} to {row and row[0]}"
                )
            self._bus._append(db, outputs)
            db.execute(
                "INSERT INTO offsets VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET next_pos = excluded.next_pos",
                (*place, delivery.offset + 1),
            )
            db.execute("DELETE FROM leases WHERE grp = ? AND topic = ? AND part = ?", place)
        self._held = None
        self._bus.ring()

    def defer(self, delivery: Delivery, *, until: float) -> None:
        """Give the delivery back; this member leaves its partition alone until then."""
        self._deferred[(delivery.topic, delivery.partition)] = until
        self._release()

    def heartbeat(self) -> None:
        """Renew the lease on the partition in work."""
        if self._held is None:
            return
        with self._bus._transaction() as db:
            db.execute(
                "UPDATE leases SET until = ? WHERE grp = ? AND topic = ? AND part = ? AND member = ?",
                (time.time() + self._bus.lease_s, self._group, *self._held, self._member),
            )

    def close(self) -> None:
        """Give the lease back."""
        self._release()
        self._bell.close()

    def _release(self) -> None:
        if self._held is None:
            return
        with self._bus._transaction() as db:
            db.execute(
                "DELETE FROM leases WHERE grp = ? AND topic = ? AND part = ? AND member = ?",
                (self._group, *self._held, self._member),
            )
        self._held = None
        self._bus.ring()

    def _candidates(self, db: sqlite3.Connection) -> list[tuple[str, int, int]]:
        marks = ",".join("?" for _ in self._topics)
        now = time.time()
        rows = db.execute(
            "SELECT e.topic, e.part, COALESCE(o.next_pos, 0) FROM ends e"
            " LEFT JOIN offsets o ON o.grp = ?1 AND o.topic = e.topic AND o.part = e.part"
            " LEFT JOIN leases l ON l.grp = ?1 AND l.topic = e.topic AND l.part = e.part"
            f" WHERE e.topic IN ({marks}) AND e.next_pos > COALESCE(o.next_pos, 0)"
            " AND (l.member IS NULL OR l.until < ? OR l.member = ?)",
            (self._group, *self._topics, now, self._member),
        ).fetchall()
        return [(t, p, n) for t, p, n in rows if self._deferred.get((t, p), 0) <= now]

    def _may_have_work(self) -> bool:
        # Only leases that run out and deferred events that fall due show in no version.
        db = self._bus._connection()
        version = _version(db)
        now = time.time()
        if version == self._seen and now < self._look_at:
            return False
        self._seen = version
        due = [until for until in self._deferred.values() if until > now]
        self._look_at = min([now + LOOK_AGAIN_S, *due])
        return bool(self._candidates(db))

    def _take(self) -> Delivery | None:
        with self._bus._transaction() as db:
            best: Delivery | None = None
            best_seq = 0
            for topic, part, start in self._candidates(db):
                row = db.execute(
                    "SELECT topic, part, pos, key, value, headers, seq FROM events"
                    " WHERE topic = ? AND part = ? AND pos = ?",
                    (topic, part, start),
                ).fetchone()
                if best is None or row[6] < best_seq:
                    best, best_seq = _delivery(row[:6]), row[6]
            if best is None:
                return None
            db.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET member = excluded.member, until = excluded.until",
                (self._group, best.topic, best.partition, self._member, time.time() + self._bus.lease_s),
            )
        self._held = (best.topic, best.partition)
        return best


def _version(db: sqlite3.Connection) -> tuple[int, int]:
    """Moves with every commit: data_version (4 µs) with those of other connections, total_changes with our own."""
    return db.execute("PRAGMA data_version").fetchone()[0], db.total_changes


def _delivery(row: tuple[str, int, int, str, bytes, str]) -> Delivery:
    topic, part, pos, key, value, headers = row
    return Delivery(Envelope(topic, key, value, json.loads(headers)), topic, part, pos)
