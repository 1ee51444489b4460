"""Settings that every service shares. Only a service's __main__ builds them, from MENDLOOP_ variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mendloop.core.errors import InvalidRecipe

PREFIX = "MENDLOOP_"
TOKEN_FILE = ".mendloop/gateway-token"

_OF_ONE_SERVICE = (
    "access address_rate allowed_hosts body_timeout_s cache candidate_limit corpus_sample cors_origins"
    " credential_rate database_url embedder failure_sample fit_sample fruitless_limit grpc_port grpc_port_file"
    " host keep_alive_s keep_days keep_runs max_body_bytes max_streams models_dir oidc_algorithms oidc_audience"
    " oidc_issuer oidc_jwks_url oidc_name_claim oidc_runs oidc_runs_claim oidc_scope_claim oidc_scopes port"
    " port_file public_url sealed_artifacts_uri source_stall_s survivor_limit tls_cert_file tls_key_file token"
    " token_file torch_threads trainer_peak_flops trainer_processes trainer_strategy trusted_proxies vllm_api_key"
    " vllm_arguments vllm_dtype vllm_python vllm_url webhook_allow_http webhook_allowed_networks webhook_keys"
    " webhook_limit webhook_retry_for_s webhook_timeout_s"
)
"""Settings of single services, so that all of them can share one environment. A test compares with their classes."""

KNOWN_ELSEWHERE = frozenset(PREFIX + name.upper() for name in _OF_ONE_SERVICE.split())


class ServiceSettings(BaseSettings):
    """What every service needs. A service adds its own fields in a subclass."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    bus: str = Field("local:.mendloop/bus.db", description="local:PATH or kafka:HOST:PORT[,HOST:PORT].")
    bus_options: dict[str, str] = Field(default_factory=dict, description="Options of the Kafka client, as JSON.")
    artifacts_uri: str = Field("file://.mendloop/artifacts", description="Where artifacts lie (fsspec URI or path).")
    work_dir: Path = Field(Path(".mendloop/work"), description="Scratch space of this machine.")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Its port; 0 takes a free one.")
    metrics_port_file: Path | None = Field(None, description="File that gets the port, for who started us.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    otlp_endpoint: str = Field("", description="OTLP/HTTP address for traces (http://HOST:4318); empty: none are made.")
    member: str = Field("", description="Stable name of this replica; empty makes one from host and process.")
    exit_when_idle_s: float = Field(
        0.0, ge=0, description="Seconds without an event after which the service ends; 0: never. Not for the gateway."
    )

    @classmethod
    def from_environment(cls) -> Self:
        """Settings from the environment. Raises InvalidRecipe for an unknown MENDLOOP_ variable."""
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known | KNOWN_ELSEWHERE)
        if unknown:
            raise InvalidRecipe(f"unknown setting(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls()


def client_token() -> str:
    """The token of a client: MENDLOOP_TOKEN, else the file that a gateway of this machine writes (MENDLOOP_TOKEN_FILE);
    empty where there is neither."""
    token = os.environ.get(PREFIX + "TOKEN", "")
    if token:
        return token
    path = Path(os.environ.get(PREFIX + "TOKEN_FILE") or TOKEN_FILE)
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
