"""`mend keys`: what it makes opens the gateway of the same home, and it says what it did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mendloop.cli.app import app
from mendloop.cli.deployment import deployment_at
from mendloop.database.engine import open_engine
from mendloop.gateway.adapters.audit_store import AuditStore
from mendloop.gateway.adapters.credentials import Credentials
from mendloop.gateway.adapters.key_store import KeyStore
from mendloop.gateway.adapters.local_token import local_token
from mendloop.gateway.adapters.session_store import SessionStore
from mendloop.gateway.domain.refusals import NotSignedIn


def _mend(home: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["--home", str(home), *words])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_key_is_made_listed_rotated_and_revoked(tmp_path: Path) -> None:
    token = _mend(tmp_path, "keys", "create", "ci", "--scope", "run", "--runs", "team-a-*")
    engine = open_engine(deployment_at(tmp_path).gateway_database_url)
    store, audit = KeyStore(engine, clock=time.time), AuditStore(engine, clock=time.time)
    credentials = Credentials(store, SessionStore(engine, clock=time.time), clock=time.time)

    principal = credentials.bearer(token)
    key_id = principal.credential.removeprefix("key:")
    assert (principal.scope.word, principal.limits.patterns if principal.limits else ()) == ("run", ("team-a-*",))
    assert all(word in _mend(tmp_path, "keys", "list") for word in (key_id, "ci", "team-a-*", "active"))

    newer = _mend(tmp_path, "keys", "rotate", key_id, "--overlap-h", "0", "--reason", "leaked")
    assert credentials.bearer(newer).who == principal.who
    with pytest.raises(NotSignedIn):
        credentials.bearer(token)
    _mend(tmp_path, "keys", "revoke", key_id)
    with pytest.raises(NotSignedIn):
        credentials.bearer(newer)
    deeds = [entry.deed for entry in audit.page(limit=10)]
    assert [deed.action.split()[2] for deed in deeds] == ["revoke", "rotate", "create"]
    assert deeds[1].reason == "leaked"


def test_unknown_scope_is_refused_in_words(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--home", str(tmp_path), "keys", "create", "ci", "--scope", "root"])
    assert (result.exit_code, "unknown scope" in str(result.exception)) == (1, True)


def test_cli_finds_the_local_token_of_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MENDLOOP_TOKEN", raising=False)
    target = deployment_at(tmp_path)
    assert target.gateway_token() == ""
    made = local_token(target.token_file)
    assert (target.gateway_token(), local_token(target.token_file)) == (made, made)
    assert target.environment("gateway", name="gateway-0")["MENDLOOP_TOKEN_FILE"] == str(target.token_file)
    monkeypatch.setenv("MENDLOOP_TOKEN", "mine")
    assert target.gateway_token() == "mine"


def test_local_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway-token"
    local_token(path)
    path.chmod(0o644)
    with pytest.raises(Exception, match="may be read by others"):
        local_token(path)
