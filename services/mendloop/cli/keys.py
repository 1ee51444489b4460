"""`mend keys`: API keys of the gateway, made and ended in its database. Who reaches that needs no key."""

from __future__ import annotations

import getpass
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mendloop.cli.deployment import Deployment
from mendloop.cli.screen import output
from mendloop.core.errors import MendloopError

if TYPE_CHECKING:
    from mendloop.gateway.adapters.audit_store import AuditStore
    from mendloop.gateway.adapters.key_store import KeyStore
    from mendloop.gateway.domain.keys import Key

keys_app = typer.Typer(
    help="API keys of the gateway: who may read, start runs, approve, administer.", no_args_is_help=True
)
console = output()
KeyId = Annotated[str, typer.Argument(help="Id of the key, as `mend keys list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit log.")]
DAY_S = 86_400.0


class Refused(MendloopError):
    """The gateway's rules refuse what was asked."""


@keys_app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for, e.g. ci.")],
    scope: Annotated[str, typer.Option(help="read, run, approve or admin; each holds those before it.")] = "read",
    days: Annotated[int, typer.Option(min=0, help="Days until it expires; 0 is never.")] = 90,
    runs: Annotated[
        list[str] | None, typer.Option(help="Only runs named so, e.g. 'team-a-*'; may be repeated.")
    ] = None,
    own_runs: Annotated[bool, typer.Option("--own-runs", help="Only runs that it starts, besides --runs.")] = False,
    reason: Reason = "",
) -> None:
    """Make a key and print it, once: only a hash of it is kept."""
    from mendloop.gateway.domain.access import RunLimits, Scope
    from mendloop.gateway.domain.refusals import Refusal

    store, audit = _stores(context.obj)
    try:
        limits = RunLimits(own=own_runs, patterns=tuple(runs or [])) if runs or own_runs else None
        lifetime_s = days * DAY_S if days else None
        key, token = store.create(name, scope=Scope.of(scope), by=_user(), limits=limits, lifetime_s=lifetime_s)
    except Refusal as error:
        raise Refused(str(error)) from None
    _record(audit, f"mend keys create {key.key_id}", reason)
    typer.echo(token)
    Console(stderr=True).print(f"key {key.key_id} ({key.name}, {key.scope.word}); it is not shown again")


@keys_app.command("list")
def list_keys(context: typer.Context) -> None:
    """List the keys, newest first."""
    store, _ = _stores(context.obj)
    table = Table("id", "name", "scope", "state", "runs", "expires", "last used", box=None)
    now = time.time()
    for key in store.all():
        table.add_row(
            key.key_id,
            key.name,
            key.scope.word,
            key.state(now=now),
            _runs(key),
            _at(key.expires_at),
            _at(key.last_used_at),
        )
    console.print(table if table.row_count else "no keys; `mend keys create NAME` makes one")


@keys_app.command("rotate")
def rotate(
    context: typer.Context,
    key_id: KeyId,
    overlap_h: Annotated[float, typer.Option(min=0, help="Hours in which the old secret goes on.")] = 24.0,
    reason: Reason = "",
) -> None:
    """Give a key a new secret and print it, once; the old one goes on for some hours."""
    from mendloop.gateway.domain.refusals import Refusal

    store, audit = _stores(context.obj)
    try:
        key, token = store.rotate(key_id, overlap_s=overlap_h * 3600)
    except Refusal as error:
        raise Refused(str(error)) from None
    _record(audit, f"mend keys rotate {key.key_id}", reason)
    typer.echo(token)


@keys_app.command("revoke")
def revoke(context: typer.Context, key_id: KeyId, reason: Reason = "") -> None:
    """End a key; a gateway that runs notices within five seconds."""
    from mendloop.gateway.domain.refusals import Refusal

    store, audit = _stores(context.obj)
    try:
        key = store.revoke(key_id)
    except Refusal as error:
        raise Refused(str(error)) from None
    _record(audit, f"mend keys revoke {key.key_id}", reason)
    console.print(f"key {key.key_id} ({key.name}) is revoked")


def _stores(target: Deployment) -> tuple[KeyStore, AuditStore]:
    from mendloop.database.engine import open_engine
    from mendloop.gateway.adapters.audit_store import AuditStore
    from mendloop.gateway.adapters.key_store import KeyStore
    from mendloop.gateway.adapters.migrate import migrate

    engine = open_engine(target.gateway_database_url)
    migrate(engine)
    return KeyStore(engine, clock=time.time), AuditStore(engine, clock=time.time)


def _record(audit: AuditStore, action: str, reason: str) -> None:
    from mendloop.gateway.adapters.audit_store import Deed

    audit.add(Deed(_user(), "local", action, "ok", reason=reason, address="this machine"))


def _user() -> str:
    return getpass.getuser()


def _runs(key: Key) -> str:
    if key.limits is None:
        return "all"
    return ", ".join([*key.limits.patterns, *(["its own"] if key.limits.own else [])])


def _at(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
