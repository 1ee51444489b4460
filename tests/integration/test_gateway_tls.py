"""The gateway's process under TLS with keys alone: REST and gRPC on one certificate, and no local token."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from waiting import wait_until

from mendloop.database.engine import open_engine
from mendloop.gateway.adapters.key_store import KeyStore
from mendloop.gateway.adapters.migrate import migrate
from mendloop.gateway.domain.access import Scope
from mendloop.v1 import loop_service_pb2 as pb
from mendloop.v1.loop_service_pb2_grpc import LoopServiceStub


@dataclass(frozen=True, slots=True)
class Served:
    """Where the process answers, its certificate, and a key that reads."""

    url: str
    grpc_address: str
    certificate: Path
    token: str


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = _certificate(folder)
    database = f"sqlite:///{folder / 'gateway.db'}"
    engine = open_engine(database)
    migrate(engine)
    _, token = KeyStore(engine, clock=time.time).create("ci", scope=Scope.READ, by="test")
    ports = folder / "port", folder / "grpc-port"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MENDLOOP_")} | {
        "MENDLOOP_BUS": f"local:{folder / 'bus.db'}",
        "MENDLOOP_ARTIFACTS_URI": f"file://{folder / 'artifacts'}",
        "MENDLOOP_SEALED_ARTIFACTS_URI": f"file://{folder / 'sealed'}",
        "MENDLOOP_DATABASE_URL": database,
        "MENDLOOP_ACCESS": "keys",
        "MENDLOOP_TOKEN_FILE": str(folder / "gateway-token"),
        "MENDLOOP_TLS_CERT_FILE": str(certificate),
        "MENDLOOP_TLS_KEY_FILE": str(key),
        "MENDLOOP_PORT": "0",
        "MENDLOOP_PORT_FILE": str(ports[0]),
        "MENDLOOP_GRPC_PORT_FILE": str(ports[1]),
    }
    process = subprocess.Popen([sys.executable, "-m", "mendloop.gateway"], env=environment, cwd=folder, stderr=-1)
    try:
        wait_until(lambda: all(port.exists() for port in ports), deadline_s=90)
        rest, grpc_port = (port.read_text() for port in ports)
        yield Served(f"https://127.0.0.1:{rest}", f"127.0.0.1:{grpc_port}", certificate, token)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert not (folder / "gateway-token").exists()
    finally:
        process.kill()
        process.communicate()


def test_rest_is_served_under_tls_only(served: Served) -> None:
    context = ssl.create_default_context(cafile=served.certificate)
    with httpx.Client(base_url=served.url, verify=context, timeout=20) as client:
        me = client.get("/v1/me", headers={"Authorization": f"Bearer {served.token}"})
        signed_in = client.post("/v1/session", json={"token": served.token})
        assert client.get("/v1/me").json()["scopes"] == ["read"]
    assert (me.status_code, me.headers["strict-transport-security"]) == (200, "max-age=31536000")
    assert "Secure" in signed_in.headers["set-cookie"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(served.url.replace("https", "http") + "/healthz", timeout=20)


def test_grpc_is_served_with_the_same_certificate(served: Served) -> None:
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(served.certificate.read_bytes()), grpc.access_token_call_credentials(served.token)
    )
    with grpc.secure_channel(served.grpc_address, credentials) as channel:
        assert list(LoopServiceStub(channel).ListRuns(pb.ListRunsRequest(), timeout=20).runs) == []
    with grpc.insecure_channel(served.grpc_address) as channel, pytest.raises(grpc.RpcError):
        LoopServiceStub(channel).ListRuns(pb.ListRunsRequest(), timeout=5)
