"""A real Kafka broker as a company runs it: TLS, passwords, and nothing allowed that no ACL allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import Pair, authority, issued
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka_broker import CACHE
from ports import free_port

from mendloop.bus.broker import running_broker

SERVICE, STRANGER = "mendloop", "stranger"
"""A user with the rights that docs/deploy.md lists, and one without any."""
PASSWORDS = {"admin": "admin's own", SERVICE: "s3cret with =, and ;", STRANGER: "knows nothing"}
RIGHTS = {
    ResourceType.TOPIC: (ACLOperation.READ, ACLOperation.WRITE, ACLOperation.CREATE, ACLOperation.ALTER_CONFIGS),
    ResourceType.GROUP: (ACLOperation.READ,),
    ResourceType.TRANSACTIONAL_ID: (ACLOperation.WRITE,),
}
_SCRAM = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}


@dataclass(frozen=True, slots=True)
class Secured:
    """The broker's address, and the authority that signed its certificate."""

    bootstrap: str
    authority: Path

    def options(self, *, user: str = SERVICE, mechanism: str = "SCRAM-SHA-512", password: str = "") -> dict[str, str]:
        """MENDLOOP_BUS_OPTIONS as the chart writes them."""
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_plain_username": user,
            "sasl_plain_password": password or PASSWORDS[user],
            "ssl_cafile": str(self.authority),
        }


@contextmanager
def secured_broker(folder: Path, *, prefix: str) -> Iterator[Secured]:
    """The broker while the block runs. The service's rights end at topics, groups and transactions with the prefix."""
    ca, port = authority(folder, "brokers"), free_port()
    certificate = issued(folder, "broker", by=ca, subject="broker", hosts="IP:127.0.0.1,DNS:localhost")
    settings = _settings(folder, certificate=certificate, port=port, controller_port=free_port())
    with running_broker(cache=CACHE, port=port, settings=settings) as bootstrap:
        secured = Secured(bootstrap, ca.certificate)
        options = secured.options(user="admin", mechanism="PLAIN")
        with KafkaAdminClient(bootstrap_servers=bootstrap, **options) as admin:
            for kind in _SCRAM.values():  # a user's credential is altered once a request
                made = [UserScramCredentialUpsertion(user, kind, password) for user, password in PASSWORDS.items()]
                assert not any(admin.alter_user_scram_credentials(made).values())
            admin.create_acls([*_acls(prefix)])
        yield secured


def _settings(folder: Path, *, certificate: Pair, port: int, controller_port: int) -> dict[str, str]:
    keys = folder / "broker.pem"
    keys.write_text(certificate.key.read_text() + certificate.certificate.read_text())
    users = " ".join(f'user_{user}="{password}"' for user, password in PASSWORDS.items())
    admin = f'username="admin" password="{PASSWORDS["admin"]}"'
    security, listener = "org.apache.kafka.common.security", "listener.name.sasl_ssl"
    return {
        "listeners": f"SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"SASL_SSL://127.0.0.1:{port}",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.enabled.mechanisms": ",".join(("PLAIN", *_SCRAM)),
        f"{listener}.plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {admin} {users};",
        **{
            f"{listener}.{kind.lower()}.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;"
            for kind in _SCRAM
        },
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.crt"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",  # the controller's own listener has no names
    }


def _acls(prefix: str) -> Iterator[ACL]:
    for kind, operations in RIGHTS.items():
        pattern = ResourcePattern(kind, prefix, ACLResourcePatternType.PREFIXED)
        for operation in operations:
            yield ACL(f"User:{SERVICE}", "*", operation, ACLPermissionType.ALLOW, pattern)
