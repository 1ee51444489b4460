"""OIDC tokens against a real JWKS server and a generated key: only what the issuer signed, for us, in time, counts."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi.testclient import TestClient
from gateways import gateway
from run_events import data_run
from waiting import wait_until

from mendloop.core.errors import Retryable
from mendloop.gateway.adapters.oidc import KEEP_S, REFETCH_S, Issuer, IssuerKeys, OidcReader
from mendloop.gateway.domain.access import RunLimits, Scope
from mendloop.gateway.domain.refusals import NotSignedIn

ISSUER, AUDIENCE = "https://id.example", "mendloop"
KEYS = {"one": rsa.generate_private_key(65537, 2048), "two": rsa.generate_private_key(65537, 2048)}
STRANGER = rsa.generate_private_key(65537, 2048)


class Jwks:
    """A server of public keys that can change them, count requests and break."""

    def __init__(self) -> None:
        self.key_ids, self.asked, self.is_broken = ["one"], 0, False
        jwks = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                jwks.asked += 1
                self.send_response(500 if jwks.is_broken else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"keys": [_public(key_id) for key_id in jwks.key_ids]}).encode())

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks"


class Clock:
    """Seconds that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _public(key_id: str) -> dict[str, Any]:
    document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[key_id].public_key()))
    return {**document, "kid": key_id, "use": "sig", "alg": "RS256"}


@pytest.fixture
def jwks() -> Iterator[Jwks]:
    served = Jwks()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(jwks: Jwks, clock: Clock) -> OidcReader:
    issuer = Issuer(ISSUER, AUDIENCE, jwks.url)
    return OidcReader(issuer, keys=IssuerKeys(jwks.url, clock=clock))


@pytest.fixture(scope="module")
def strict() -> Iterator[OidcReader]:
    """A reader that many tests share, for fetching keys costs a TLS context."""
    served = Jwks()
    yield OidcReader(Issuer(ISSUER, AUDIENCE, served.url))
    served.server.shutdown()
    served.server.server_close()


def _token(*, key: Any = None, key_id: str = "one", algorithm: str = "RS256", **changes: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": time.time() + 300,
        "scope": "openid mendloop:run",
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, KEYS[key_id] if key is None else key, algorithm=algorithm, headers={"kid": key_id})


def test_token_names_who_asks_and_what_they_may(reader: OidcReader) -> None:
    principal = reader.principal(_token(scope="mendloop:read mendloop:approve other"))
    assert (principal.who, principal.scope, principal.credential) == ("ada (oidc)", Scope.APPROVE, "oidc")
    assert principal.expires_at is not None


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (lambda: _token(exp=time.time() - 60), "expired"),
        (lambda: _token(exp=None), "exp"),
        (lambda: _token(aud="another"), "udience"),
        (lambda: _token(aud=None), "aud"),
        (lambda: _token(iss="https://evil.example"), "ssuer"),
        (lambda: _token(nbf=time.time() + 300), "not yet"),
        (lambda: _token(scope="openid"), "holds none of"),
        (lambda: _token(scope=None), "holds none of"),
        (lambda: _token(scope={"mendloop:admin": 1}), "holds none of"),
        (lambda: _token(sub=None), "sub"),
        (lambda: _token(sub="a\nb"), "sub"),
        (lambda: _token(key=STRANGER), "ignature"),
        (lambda: _token(key="", algorithm="none"), "algorithm"),
        (lambda: _unsigned(), "algorithm"),
        (lambda: _token(key="x" * 64, algorithm="HS256"), "algorithm"),
        (lambda: _signed_with_the_public_key(), "algorithm"),
        (lambda: _token(key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"), "accept"),
        (lambda: _token(key=KEYS["two"]) + "x", "accept"),
        (lambda: "a.b.c", "accept"),
    ],
)
def test_token_that_is_not_for_us_is_refused(strict: OidcReader, token: Any, words: str) -> None:
    with pytest.raises(NotSignedIn, match=words):
        strict.principal(token())


def _unsigned() -> str:
    """A good token whose header says that it needs no signature."""
    _, claims, _ = _token().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "one"}).encode()).decode().rstrip("=")
    return f"{header}.{claims}."


def _signed_with_the_public_key() -> str:
    """A good token signed by HMAC with the public key, which everybody has."""
    public = (
        KEYS["one"]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    encoded = [base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "one"}).encode()).decode().rstrip("=")]
    encoded.append(_token().split(".")[1])
    signature = hmac.digest(public, ".".join(encoded).encode(), "sha256")
    return ".".join([*encoded, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


def test_clocks_may_differ_a_little(reader: OidcReader) -> None:
    assert reader.principal(_token(exp=time.time() - 5)).who == "ada (oidc)"


def test_keys_are_fetched_once_for_many_tokens(reader: OidcReader, jwks: Jwks, clock: Clock) -> None:
    for _ in range(5):
        reader.principal(_token())
    clock.now += KEEP_S + 1
    reader.principal(_token())
    assert jwks.asked == 2


def test_new_signing_key_is_taken_within_seconds(reader: OidcReader, jwks: Jwks, clock: Clock) -> None:
    reader.principal(_token())
    jwks.key_ids = ["one", "two"]
    clock.now += REFETCH_S
    assert reader.principal(_token(key_id="two")).who == "ada (oidc)"


def test_withdrawn_key_ends_when_the_keys_are_fetched_again(reader: OidcReader, jwks: Jwks, clock: Clock) -> None:
    reader.principal(_token())
    jwks.key_ids = ["two"]
    clock.now += KEEP_S + 1
    with pytest.raises(NotSignedIn, match="does not publish"):
        reader.principal(_token())


def test_strangers_cannot_make_us_ask_the_issuer_again_and_again(reader: OidcReader, jwks: Jwks, clock: Clock) -> None:
    reader.principal(_token())
    for _ in range(50):
        clock.now += REFETCH_S / 50
        with pytest.raises(NotSignedIn, match="does not publish"):
            reader.principal(_token(key_id="two"))
    assert jwks.asked <= 3


def test_keys_of_before_go_on_while_the_issuer_is_away(reader: OidcReader, jwks: Jwks, clock: Clock) -> None:
    reader.principal(_token())
    jwks.is_broken = True
    clock.now += KEEP_S + 1
    assert reader.principal(_token()).who == "ada (oidc)"


def test_issuer_that_never_answered_is_no_refusal(reader: OidcReader, jwks: Jwks) -> None:
    jwks.is_broken = True
    with pytest.raises(Retryable):
        reader.principal(_token())


def test_roles_may_stand_in_a_nested_claim_under_other_names(jwks: Jwks) -> None:
    issuer = Issuer(
        ISSUER,
        AUDIENCE,
        jwks.url,
        scope_claim="realm_access.roles",
        scopes={"ml-admins": Scope.ADMIN},
        name_claim="preferred_username",
    )
    token = _token(realm_access={"roles": ["x", "ml-admins"]}, preferred_username="ada.l")
    principal = OidcReader(issuer).principal(token)
    assert (principal.who, principal.scope) == ("ada.l (oidc)", Scope.ADMIN)


@pytest.mark.parametrize(
    ("claim", "limits"),
    [
        ("team-a-* @own", RunLimits(True, ("team-a-*",))),
        (["team-a-*", "nightly-?"], RunLimits(False, ("team-a-*", "nightly-?"))),
        (["@own"], RunLimits(True)),
    ],
)
def test_claim_limits_to_runs(jwks: Jwks, claim: object, limits: RunLimits) -> None:
    reader = OidcReader(Issuer(ISSUER, AUDIENCE, jwks.url, runs_claim="mend.runs"))
    assert reader.principal(_token(mend={"runs": claim})).limits == limits


@pytest.mark.parametrize("claim", [None, "", [], [""], {"*": 1}, 7, ["*", 7], ["a/../*"], ["*"] * 51, ["a\n"], True])
def test_token_whose_limits_cannot_be_read_is_refused(jwks: Jwks, claim: object) -> None:
    reader = OidcReader(Issuer(ISSUER, AUDIENCE, jwks.url, runs_claim="runs"))
    distinct = [f"{one}{n}" for n, one in enumerate(claim)] if claim == ["*"] * 51 else claim
    with pytest.raises(NotSignedIn, match="claim 'runs'"):
        reader.principal(_token(runs=distinct))


def test_groups_map_to_runs_and_admins_are_not_limited(jwks: Jwks) -> None:
    issuer = Issuer(ISSUER, AUDIENCE, jwks.url, runs_claim="groups", runs={"a": ["a-*"], "staff": ["@own", "a-*"]})
    reader = OidcReader(issuer)
    assert reader.principal(_token(groups=["staff", "/other group", "a"])).limits == RunLimits(True, ("a-*",))
    assert reader.principal(_token(scope="mendloop:admin")).limits is None
    for groups in (["*"], ["/other group"]):
        with pytest.raises(NotSignedIn, match="names no runs"):
            reader.principal(_token(groups=groups))


def test_mapping_that_limits_nothing_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="MENDLOOP_OIDC_RUNS_CLAIM"):
        Issuer(ISSUER, AUDIENCE, "https://id.example/jwks", runs={"a": ["a-*"]})
    for patterns in ([], ["a/b"]):
        with pytest.raises(ValueError, match=r"MENDLOOP_OIDC_RUNS\['a'\]"):
            Issuer(ISSUER, AUDIENCE, "https://id.example/jwks", runs_claim="groups", runs={"a": patterns})


def test_limited_caller_sees_matching_runs_and_no_others(jwks: Jwks, tmp_path: Path) -> None:
    reader = OidcReader(Issuer(ISSUER, AUDIENCE, jwks.url, runs_claim="runs"))
    parts = gateway(tmp_path, is_open=False, reader=reader)
    parts.bus.publish([*data_run("team-a-1"), *data_run("team-b-1")])
    headers = {"Authorization": f"Bearer {_token(runs='team-a-*')}"}
    with TestClient(parts.app) as client:
        wait_until(lambda: parts.feed.runs.view("team-b-1"))
        runs = client.get("/v1/runs", headers=headers).json()["runs"]
        others = client.get("/v1/runs/team-b-1", headers=headers)
        broken = client.get("/v1/runs", headers={"Authorization": f"Bearer {_token(runs={})}"})
    assert [run["run_id"] for run in runs] == ["team-a-1"]
    assert (others.status_code, broken.status_code) == (404, 401)


@pytest.mark.parametrize("algorithms", [("none",), ("HS256",), ()])
def test_algorithms_without_a_public_key_cannot_be_set(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="RS256"):
        Issuer(ISSUER, AUDIENCE, "https://id.example/jwks", algorithms=algorithms)


def test_gateway_takes_a_token_until_it_expires_and_503_without_keys(tmp_path: Path, jwks: Jwks) -> None:
    ends = time.time() + 300
    now = [time.time()]
    reader = OidcReader(Issuer(ISSUER, AUDIENCE, jwks.url))
    parts = gateway(tmp_path, is_open=False, reader=reader, clock=lambda: now[0])
    client = TestClient(parts.app)
    jwks.is_broken = True
    shown = {"Authorization": f"Bearer {_token(exp=ends)}"}
    assert client.get("/v1/me", headers=shown).status_code == 503
    jwks.is_broken = False
    reader._keys._tried_at = float("-inf")
    me = client.get("/v1/me", headers=shown)
    assert (me.status_code, me.json()["name"], me.json()["scopes"]) == (200, "ada (oidc)", ["read", "run"])
    assert client.get("/v1/keys", headers=shown).status_code == 403
    old = {"Authorization": f"Bearer {_token(exp=time.time() - 60)}"}
    assert "expired" in client.get("/v1/me", headers=old).json()["detail"]
