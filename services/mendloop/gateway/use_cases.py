"""What people can do: start, list, look at, cancel, approve, pause, roll back. Knows no web: REST and gRPC share it.

Every change is an event on the bus; its id is a hash of what was asked, so that asking twice is asking once.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mendloop.bus.base import Bus
from mendloop.core.errors import CorruptArtifact, InvalidRecipe, Retryable
from mendloop.core.events import stable_hash
from mendloop.core.recipe import Recipe
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.paging import Page
from mendloop.gateway.domain.refusals import (
    Busy,
    Conflict,
    Fault,
    Invalid,
    KeyReused,
    Malformed,
    UnknownRun,
    Unreadable,
    check_key,
)
from mendloop.gateway.domain.run_lines import RunLine
from mendloop.gateway.feed import Feed
from mendloop.gateway.ports import Documents, Letters, RunLogs, RunPages, Submit, Tables
from mendloop.runs import steering
from mendloop.runs.answering import NotNow
from mendloop.runs.view import RunView

log = logging.getLogger(__name__)
SEEN_WITHIN_S = 5.0
SUBMISSIONS_AT_ONCE = 2
WAITING_SUBMISSIONS = 8
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
    pages: RunPages
    run_logs: RunLogs
    tables: Tables
    letters: Letters
    desk: Desk = field(default_factory=lambda: Desk())


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was asked for; is_new is False where the idempotency key had asked for it before."""

    run_id: str
    is_new: bool


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


def start_run(recipe: Recipe, *, ports: Ports, asker: Principal, key: str = "", requested_by: str = "") -> Started:
    """Ask for a run. The same key and recipe again give the same run, also after a restart.

    Keys of two principals are two keys. Raises Invalid where the recipe cannot run, KeyReused where the key belongs to
    another recipe, NotAllowed where the run would be none of theirs, Busy or Conflict where it has to wait.
    """
    check_key(key)
    place = f"{asker.who}\n{key}" if key and not asker.is_local else key
    with ports.desk.place(place), reading_pages():
        run_id = f"{recipe.name}-{secrets.token_hex(3)}"
        asker.check_start(run_id)
        if key:
            run_id = _keyed_run(recipe, key=key, asker=asker, ports=ports)
        if key and ports.pages.has(run_id):
            return Started(run_id, False)
        try:
            ports.submit(recipe, run_id=run_id, requested_by=asker.acts_as(requested_by))
        except InvalidRecipe as error:
            name = getattr(error, "field", "")
            faults = (Fault(name, str(error)),) if name else ()
            raise Invalid(str(error), faults=faults) from error
        _wait_seen(run_id, ports=ports)
        return Started(run_id, True)


def list_runs(
    *,
    ports: Ports,
    asker: Principal,
    limit: int,
    cursor: str = "",
    state: str = "",
    outcome: str = "",
    q: str = "",
) -> Page[RunLine]:
    """Runs that the asker may see, newest first.

    Raises Malformed for a cursor that no page gave, Busy where the database is away.
    """
    with reading_pages(q, outcome):
        return ports.pages.list_runs(asker=asker, limit=limit, cursor=cursor, state=state, outcome=outcome, q=q)


def sees(asker: Principal, view: RunView) -> bool:
    """Whether a run exists for who asks."""
    return asker.may_see(view.run_id, started_by=view.request.requested_by if view.request else "")


def get_run(run_id: str, *, ports: Ports, asker: Principal) -> RunView:
    """One run. Raises UnknownRun, also for a run that is none of theirs, or Busy where the database is away."""
    with reading_pages():
        view = ports.feed.runs.view(run_id)
    if view is None or not sees(asker, view):
        raise UnknownRun.named(run_id)
    return view


def require_run(run_id: str, *, ports: Ports, asker: Principal) -> None:
    """Raises UnknownRun where no event of the run is kept or it is none of theirs, Busy where that cannot be told."""
    if asker.limits is not None:
        get_run(run_id, ports=ports, asker=asker)
        return
    with reading_pages(run_id):
        is_known = ports.pages.has(run_id)
    if not is_known:
        raise UnknownRun.named(run_id)


@contextmanager
def reading_pages(*words: str) -> Iterator[None]:
    """Turns what may go wrong with a page into refusals. words are what a person looks for."""
    if any("\0" in word for word in words):
        raise Malformed("a search word has a NUL character, which stands in no text")
    try:
        yield
    except ValueError as error:
        raise Malformed(str(error)) from error
    except Retryable as error:
        log.warning("a page cannot be read now", extra={"reason": str(error)})
        raise Busy("the database or the store is busy or away; try again in some seconds") from error
    except CorruptArtifact as error:
        log.error("an artifact cannot be shown", extra={"reason": str(error)})
        raise Unreadable(
            "an artifact that this page needs is missing or damaged; the gateway's log names it"
        ) from error


def cancel_run(run_id: str, *, ports: Ports, asker: Principal, reason: str, by: str) -> RunView:
    """Stop a run; asking again changes nothing. Raises UnknownRun, or Conflict where it is over."""
    view = get_run(run_id, ports=ports, asker=asker)
    with _conflicts():
        steering.cancel(view, bus=ports.bus, reason=_text("reason", reason), by=_text("by", asker.acts_as(by)))
    return view


def answer_approval(
    run_id: str,
    *,
    ports: Ports,
    asker: Principal,
    plan_id: str,
    approved: bool,
    reason: str,
    by: str,
    is_review: bool = False,
) -> RunView:
    """Approve or refuse a plan that waits, or its batch as it is; the same answer again changes nothing.

    Raises UnknownRun, or Conflict where the run is over, does not wait for this plan, or was answered otherwise.
    """
    view = get_run(run_id, ports=ports, asker=asker)
    reason, by = _text("reason", reason), _text("by", asker.acts_as(by))
    with _conflicts():
        steering.answer(
            view, bus=ports.bus, approved=approved, reason=reason, by=by, plan_id=plan_id, is_review=is_review
        )
    return view


def steer_run(run_id: str, *, ports: Ports, asker: Principal, action: str, reason: str, by: str) -> RunView:
    """Pause a run, let it go on, or take its last promotion back; asking for the state that is changes nothing.

    Raises UnknownRun, or Conflict where the run is over or nothing was promoted.
    """
    view = get_run(run_id, ports=ports, asker=asker)
    with _conflicts():
        steering.steer(
            view, bus=ports.bus, action=action, reason=_text("reason", reason), by=_text("by", asker.acts_as(by))
        )
    return view


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except NotNow as error:
        raise Conflict(str(error)) from error


def _keyed_run(recipe: Recipe, *, key: str, asker: Principal, ports: Ports) -> str:
    """The run of a key: remembered before anything is published, so that a crash between the two loses nothing."""
    name = stable_hash("idempotency", key) if asker.is_local else stable_hash("idempotency", key, asker.who)
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
    while not ports.pages.has(run_id) and time.monotonic() < deadline and not ports.feed.is_stopping:
        time.sleep(_LOOK_S)


def _text(name: str, value: str) -> str:
    if len(value) > MAX_TEXT_LENGTH:
        raise Invalid(
            f"{name} has {len(value)} characters; at most {MAX_TEXT_LENGTH} are kept",
            faults=(Fault(name, f"at most {MAX_TEXT_LENGTH} characters"),),
        )
    return value
