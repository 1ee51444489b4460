"""Puts the parts of access together over one database, for the app and for gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from mendloop.gateway.adapters.audit_store import AuditStore
from mendloop.gateway.adapters.credentials import Credentials, TokenReader
from mendloop.gateway.adapters.entrance import DEFAULT_RATES, Entrance, Rates
from mendloop.gateway.adapters.key_store import KeyStore
from mendloop.gateway.adapters.session_store import SessionStore
from mendloop.gateway.feed import Feed


@dataclass(frozen=True, slots=True)
class Access:
    """The entrance, and the stores behind its routes."""

    entrance: Entrance
    key_store: KeyStore
    audit: AuditStore
    clock: Callable[[], float]


def open_access(
    engine: Engine,
    *,
    feed: Feed,
    local_token: str = "",
    reader: TokenReader | None = None,
    rates: Rates = DEFAULT_RATES,
    clock: Callable[[], float] = time.time,
) -> Access:
    """Access over a migrated database. local_token "" accepts none."""
    key_store, audit = KeyStore(engine, clock=clock), AuditStore(engine, clock=clock)
    sessions = SessionStore(engine, clock=clock)
    credentials = Credentials(key_store, sessions, clock=clock, local_token=local_token, reader=reader)

    def started_by(run_id: str) -> str:
        view = feed.runs.view(run_id)
        return view.request.requested_by if view is not None and view.request is not None else ""

    entrance = Entrance(credentials, record=audit.add, started_by=started_by, rates=rates)
    return Access(entrance, key_store, audit, clock)
