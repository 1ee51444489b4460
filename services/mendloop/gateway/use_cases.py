"""What people can do: start, list, look at, cancel, approve, pause, roll back. Knows no web: REST and gRPC share it.

Every change is an event on the bus; its id is a hash of what was asked, so that asking twice is asking once.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mendloop.bus.base import Bus
from mendloop.core.errors import InvalidRecipe
from mendloop.core.events import stable_hash
from mendloop.core.recipe import Recipe
from mendloop.gateway.domain.paging import Page, page_of
from mendloop.gateway.domain.refusals import Busy, Conflict, Fault, Invalid, KeyReused, Malformed, UnknownRun
from mendloop.gateway.feed import Feed
from mendloop.gateway.ports import Documents, Submit
from mendloop.runs import steering
from mendloop.runs.answering import NotNow
from mendloop.runs.view import RunView, state_of

SEEN_WITHIN_S = 5.0
SUBMISSIONS_AT_ONCE = 2
WAITING_SUBMISSIONS = 8
MAX_KEY_LENGTH = 255
MAX_TEXT_LENGTH = 2000
_LOOK_S = 0.02
_KEYS = "gateway/idempotency"


@dataclass(frozen=True, slots=True)
class Ports:
    """What the use cases work with."""

    bus: Bus
    feed: Feed
    submit: Submit
    documents: Documents
    desk: Desk = field(default_factory=lambda: Desk())


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was asked for; is_new is False where the idempotency key had asked for it before."""

    run_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in a list, with what the list is ordered by."""

    view: RunView

    @property
    def order(self) -> tuple[str, str]:
        """Newest first by start, then by id."""
        at = self.view.started_at
        return (at.isoformat() if at else "", self.view.run_id)


class Desk:
    """Lets few submissions work at once and few more wait, and one at a time for each idempotency key."""

    def __init__(self, *, at_once: int = SUBMISSIONS_AT_ONCE, waiting: int = WAITING_SUBMISSIONS) -> None:
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._working = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    @contextmanager
    def place(self, key: str) -> Iterator[None]:
        """A place at the desk. Raises Busy where all are taken, Conflict where the key is being worked on."""
        if not self._places.acquire(blocking=False):
            raise Busy("too many runs are being submitted; try again in some seconds")
        try:
            self._take(key)
            try:
                with self._working:
                    yield
            finally:
                with self._lock:
                    self._keys.discard(key)
        finally:
            self._places.release()

    def _take(self, key: str) -> None:
        with self._lock:
            if key and key in self._keys:
                raise Conflict("a request with this idempotency key is being worked on; ask again in some seconds")
            self._keys.add(key)


def start_run(recipe: Recipe, *, ports: Ports, key: str = "", requested_by: str = "") -> Started:
    """Ask for a run. The same key and recipe again give the same run, also after a restart.

    Raises Invalid where the recipe cannot run, KeyReused where the key belongs to another recipe, Busy or Conflict
    where it has to wait.
    """
    if len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise Malformed(f"the idempotency key must have at most {MAX_KEY_LENGTH} printable characters")
    with ports.desk.place(key):
        run_id = _keyed_run(recipe, key=key, ports=ports) if key else f"{recipe.name}-{secrets.token_hex(3)}"
        if key and ports.feed.runs.view(run_id) is not None:
            return Started(run_id, False)
        try:
            ports.submit(recipe, run_id=run_id, requested_by=requested_by)
        except InvalidRecipe as error:
            place = getattr(error, "field", "")
            faults = (Fault(place, str(error)),) if place else ()
            raise Invalid(str(error), faults=faults) from error
        _wait_seen(run_id, ports=ports)
        return Started(run_id, True)


def list_runs(*, ports: Ports, limit: int, cursor: str = "", state: str = "") -> Page[ListedRun]:
    """Runs, newest first. Raises Malformed for a cursor that no page gave."""
    views = ports.feed.runs.views()
    listed = [ListedRun(view) for view in views if not state or state_of(view) == state]
    listed.sort(key=lambda run: run.order, reverse=True)
    try:
        return page_of(listed, limit=limit, cursor=cursor)
    except ValueError as error:
        raise Malformed(str(error)) from error


def get_run(run_id: str, *, ports: Ports) -> RunView:
    """One run. Raises UnknownRun."""
    view = ports.feed.runs.view(run_id)
    if view is None:
        raise UnknownRun(f"there is no run {run_id[:100]!r}")
    return view


def cancel_run(run_id: str, *, ports: Ports, reason: str, by: str) -> RunView:
    """Stop a run; asking again changes nothing. Raises UnknownRun, or Conflict where it is over."""
    view = get_run(run_id, ports=ports)
    with _conflicts():
        steering.cancel(view, bus=ports.bus, reason=_text("reason", reason), by=_text("by", by))
    return view


def answer_approval(
    run_id: str, *, ports: Ports, plan_id: str, approved: bool, reason: str, by: str, is_review: bool = False
) -> RunView:
    """Approve or refuse a plan that waits, or its batch as it is; the same answer again changes nothing.

    Raises UnknownRun, or Conflict where the run is over, does not wait for this plan, or was answered otherwise.
    """
    view = get_run(run_id, ports=ports)
    reason, by = _text("reason", reason), _text("by", by)
    with _conflicts():
        steering.answer(
            view, bus=ports.bus, approved=approved, reason=reason, by=by, plan_id=plan_id, is_review=is_review
        )
    return view


def steer_run(run_id: str, *, ports: Ports, action: str, reason: str, by: str) -> RunView:
    """Pause a run, let it go on, or take its last promotion back; asking for the state that is changes nothing.

    Raises UnknownRun, or Conflict where the run is over or nothing was promoted.
    """
    view = get_run(run_id, ports=ports)
    with _conflicts():
        steering.steer(view, bus=ports.bus, action=action, reason=_text("reason", reason), by=_text("by", by))
    return view


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except NotNow as error:
        raise Conflict(str(error)) from error


def _keyed_run(recipe: Recipe, *, key: str, ports: Ports) -> str:
    """The run of a key: remembered before anything is published, so that a crash between the two loses nothing."""
    name = stable_hash("idempotency", key)
    content = stable_hash(recipe.model_dump_json())
    raw = ports.documents.get_doc(_KEYS, name)
    if raw is not None:
        known = json.loads(raw)
        if known["recipe"] != content:
            raise KeyReused(f"the idempotency key was used for another recipe, of run {known['run_id']}")
        return str(known["run_id"])
    run_id = f"{recipe.name}-{name[:12]}"
    ports.documents.put_doc(_KEYS, name, json.dumps({"recipe": content, "run_id": run_id}).encode())
    return run_id


def _wait_seen(run_id: str, *, ports: Ports) -> None:
    """A run that was answered for can be asked for; the event is committed, the feed reads it within its poll."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while ports.feed.runs.view(run_id) is None and time.monotonic() < deadline and not ports.feed.is_stopping:
        time.sleep(_LOOK_S)


def _text(name: str, value: str) -> str:
    if len(value) > MAX_TEXT_LENGTH:
        raise Invalid(
            f"{name} has {len(value)} characters; at most {MAX_TEXT_LENGTH} are kept",
            faults=(Fault(name, f"at most {MAX_TEXT_LENGTH} characters"),),
        )
    return value
