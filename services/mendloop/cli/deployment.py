"""Where a deployment's bus, stores and database are, and what environment each service gets."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Bus
from mendloop.bus.wiring import open_bus, open_store
from mendloop.core.contracts import CONTROLLER, EVALUATOR, GATEWAY
from mendloop.core.errors import Permanent

LOCAL = "local"
DEFAULT_HOME = Path(".mendloop")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A bus, two stores and a database. The sealed store is for the evaluator and for whoever submits runs."""

    home: Path
    bus_url: str
    artifacts_uri: str
    sealed_uri: str
    database_url: str
    gateway_database_url: str
    threads: int = 1
    gateway_port: int = 0
    """Port of the gateway on 127.0.0.1; 0 takes a free one."""
    grpc_port: int = 0
    """Port of its gRPC there; 0 takes a free one."""
    bus_options: Mapping[str, str] = field(default_factory=dict)
    """Options of the Kafka client, such as user and password."""

    def bus(self) -> Bus:
        """A connection to the bus."""
        return open_bus(self.bus_url, options=self.bus_options)

    def store(self) -> ArtifactStore:
        """The artifact store."""
        return open_store(self.artifacts_uri)

    def sealed_store(self) -> ArtifactStore:
        """The store of sealed items."""
        return open_store(self.sealed_uri)

    def environment(self, service: str, *, name: str) -> dict[str, str]:
        """The environment of one replica: ours, and of the settings only what the service may know."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("MENDLOOP_")}
        own |= {
            "MENDLOOP_BUS": self.bus_url,
            "MENDLOOP_ARTIFACTS_URI": self.artifacts_uri,
            "MENDLOOP_WORK_DIR": str(self.home / "work" / name),
            "MENDLOOP_METRICS_PORT_FILE": str(self.port_file(name)),
            "MENDLOOP_MEMBER": name,
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": own.get("HF_HUB_OFFLINE", "1"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # bars would stand between the log lines
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self.bus_options:
            own["MENDLOOP_BUS_OPTIONS"] = json.dumps(self.bus_options)
        if "MENDLOOP_OTLP_ENDPOINT" in os.environ:
            own["MENDLOOP_OTLP_ENDPOINT"] = os.environ["MENDLOOP_OTLP_ENDPOINT"]
        if service == GATEWAY:
            own["MENDLOOP_PORT"] = str(self.gateway_port)
            own["MENDLOOP_GRPC_PORT"] = str(self.grpc_port)
            own["MENDLOOP_GRPC_PORT_FILE"] = str(self.port_file(f"{name}-grpc"))
        if service in (EVALUATOR, GATEWAY):
            own["MENDLOOP_SEALED_ARTIFACTS_URI"] = self.sealed_uri
        if service == EVALUATOR:
            own |= {key: value for key, value in os.environ.items() if key.startswith("MENDLOOP_VLLM_")}
        if service == CONTROLLER:
            own["MENDLOOP_DATABASE_URL"] = self.database_url
        if service == GATEWAY:
            own["MENDLOOP_DATABASE_URL"] = self.gateway_database_url
            own["MENDLOOP_TOKEN_FILE"] = str(self.token_file)
        return own

    @property
    def token_file(self) -> Path:
        """The file with the gateway's local token, which only its owner can read."""
        return self.home / "gateway-token"

    def gateway_url(self) -> str:
        """Where the gateway of this home answers; empty where none was started."""
        try:
            return f"http://127.0.0.1:{int(self.port_file(f'{GATEWAY}-0').read_text())}"
        except (OSError, ValueError):
            return ""

    def grpc_address(self) -> str:
        """Where its gRPC answers; empty where none was started."""
        try:
            return f"127.0.0.1:{int(self.port_file(f'{GATEWAY}-0-grpc').read_text())}"
        except (OSError, ValueError):
            return ""

    def gateway_token(self) -> str:
        """MENDLOOP_TOKEN of the environment, or the local token of this home; empty where there is neither."""
        if token := os.environ.get("MENDLOOP_TOKEN", ""):
            return token
        try:
            return self.token_file.read_text().strip()
        except OSError:
            return ""

    def port_file(self, name: str) -> Path:
        """The file in which a replica leaves the port of its metrics and health pages."""
        return self.home / "ports" / name

    def log_file(self, name: str) -> Path:
        """The file with a replica's structured logs."""
        return self.home / "logs" / f"{name}.log"


def deployment_at(home: Path, *, bus_url: str = "", threads: int = 1) -> Deployment:
    """The deployment in a directory; MENDLOOP_ variables, where set, say where its parts are instead."""
    root = home.resolve()
    bus = bus_url or os.environ.get("MENDLOOP_BUS", LOCAL)
    return Deployment(
        home=root,
        bus_url=f"local:{root / 'bus.db'}" if bus == LOCAL else bus,
        artifacts_uri=os.environ.get("MENDLOOP_ARTIFACTS_URI", f"file://{root / 'artifacts'}"),
        sealed_uri=os.environ.get("MENDLOOP_SEALED_ARTIFACTS_URI", f"file://{root / 'sealed'}"),
        database_url=os.environ.get("MENDLOOP_DATABASE_URL", f"sqlite:///{root / 'controller.db'}"),
        gateway_database_url=os.environ.get("MENDLOOP_DATABASE_URL", f"sqlite:///{root / 'gateway.db'}"),
        threads=threads,
        bus_options=_bus_options(os.environ.get("MENDLOOP_BUS_OPTIONS", "")),
    )


def _bus_options(text: str) -> dict[str, str]:
    try:
        options = json.loads(text or "{}")
    except ValueError as error:
        options = error
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        # Not the text itself: it may hold a password.
        raise Permanent('MENDLOOP_BUS_OPTIONS is no JSON object of texts, such as {"security_protocol": "SASL_SSL"}')
    return options
