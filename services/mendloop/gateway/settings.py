"""Settings of the gateway. Its /metrics, /healthz and /readyz are on its own port.

metrics_port 0 (the default) starts no second server, and metrics_port_file gets the gateway's port; any other number
serves the same pages there too, for deployments that keep metrics apart.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from mendloop.core.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway needs beside the shared settings."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int = Field(0, ge=0, le=65535, description="Port of gRPC on the same address; 0 takes a free one.")
    grpc_port_file: Path | None = Field(None, description="File that gets gRPC's port, for who started us.")
    port_file: Path | None = Field(None, description="File that gets the port, for who started us.")
    database_url: str = Field(
        "sqlite:///.mendloop/gateway.db",
        description="sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE; the controller's database will do.",
    )
    sealed_artifacts_uri: str = Field("file://.mendloop/sealed", description="Where sealed items are stored.")
    models_dir: Path = Field(Path(), description="Folder that base.model may name directories in; others are refused.")
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Host names that requests may name, as JSON; empty: loopback names where host is one, else any.",
    )
    max_body_bytes: int = Field(256 * 1024, ge=1024, description="Largest request body.")
    body_timeout_s: float = Field(30.0, gt=0, description="Longest time that a body may take to arrive.")
    keep_runs: int = Field(10_000, ge=1, description="Most finished runs kept in the database; the oldest go first.")
    keep_days: float = Field(0, ge=0, description="Days for which a finished run is kept there; 0: no limit.")
    max_streams: int = Field(1000, ge=1, description="Most event streams at a time.")
    keep_alive_s: float = Field(15.0, gt=0, description="Longest silence on an event stream.")
    public_url: str = Field("", description="Where people reach the gateway, for links; empty leaves links out.")
    webhook_allowed_networks: list[str] = Field(
        default_factory=list,
        description='Networks that webhooks may reach though they are not public, as JSON: ["10.1.0.0/16"].',
    )
    webhook_allow_http: bool = Field(False, description="Whether webhooks may go to http:// too.")
    webhook_keys: list[SecretStr] = Field(
        default_factory=list,
        description="Fernet keys, as JSON, that encrypt webhook secrets in the database; the first one encrypts.",
    )
    webhook_limit: int = Field(500, ge=1, description="Most webhooks; each may have one request at work.")
    webhook_timeout_s: float = Field(15.0, gt=0, description="Longest time that one try may take.")
    webhook_retry_for_s: float = Field(
        86_400.0, gt=0, description="How long one event is tried before the hook is off."
    )
    access: Literal["local", "keys"] = Field(
        "local",
        description="local: the token in token_file opens everything, on a loopback address only. keys: it does not"
        " exist. API keys, and OIDC tokens where oidc_issuer is set, are read in both.",
    )
    token_file: Path = Field(Path(".mendloop/gateway-token"), description="The local token; made where there is none.")
    credential_rate: float = Field(100, gt=0, description="Requests a second of one key or person, each replica.")
    address_rate: float = Field(
        200, gt=0, description="Requests a second of one address, each replica; five seconds' at once."
    )
    trusted_proxies: list[str] = Field(
        default_factory=list, description="Addresses whose X-Forwarded-For and -Proto are believed, as JSON."
    )
    cors_origins: list[str] = Field(
        default_factory=list, description="Sites whose pages may ask with a bearer token, as JSON; none by default."
    )
    oidc_issuer: str = Field("", description="Issuer (`iss`) whose bearer tokens are read; empty: none.")
    oidc_audience: str = Field("", description="Audience (`aud`) that they must name: this gateway.")
    oidc_jwks_url: str = Field("", description="Where the issuer publishes its keys; https, or http on loopback.")
    oidc_algorithms: list[str] = Field(
        ["RS256", "ES256"], description="Signature algorithms, as JSON; public-key only."
    )
    oidc_scope_claim: str = Field("scope", description="Claim with scopes or roles; dotted: realm_access.roles.")
    oidc_scopes: dict[str, str] = Field(
        default_factory=lambda: {f"mendloop:{word}": word for word in ("read", "run", "approve", "admin")},
        description="Which value of that claim is which scope, as JSON.",
    )
    oidc_name_claim: str = Field("sub", description="Claim that names who asks; it must be unique at the issuer.")
    oidc_runs_claim: str = Field("", description="Claim that limits callers to runs; dotted; empty: they see all runs.")
    oidc_runs: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Which value of that claim is which run patterns (@own: those that one started), as JSON; empty:"
        " the values are patterns.",
    )
    tls_cert_file: Path | None = Field(None, description="Certificate chain (PEM); with tls_key_file serves TLS.")
    tls_key_file: Path | None = Field(None, description="Its private key (PEM, without passphrase).")

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        wrong = [origin for origin in value if not re.fullmatch(r"https?://[^/*\s]+", origin)]
        if wrong:
            raise ValueError(f"{wrong} must be origins such as https://team.example; a wildcard is not taken")
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.access == "local" and not self.is_loopback:
            raise ValueError(
                f"MENDLOOP_HOST is {self.host!r}, which others reach, and MENDLOOP_ACCESS is local: set it to keys and"
                " make a key with `mend keys create`"
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("set both MENDLOOP_TLS_CERT_FILE and MENDLOOP_TLS_KEY_FILE, or none")
        if self.oidc_issuer and not (self.oidc_audience and self.oidc_jwks_url):
            raise ValueError("MENDLOOP_OIDC_ISSUER needs MENDLOOP_OIDC_AUDIENCE and MENDLOOP_OIDC_JWKS_URL")
        if self.oidc_jwks_url and not re.match(
            r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", self.oidc_jwks_url
        ):
            raise ValueError(f"MENDLOOP_OIDC_JWKS_URL is {self.oidc_jwks_url!r}; keys are fetched over https only")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the gateway."""
        return self.host in ("127.0.0.1", "localhost", "::1")
