"""Settings of the gateway. Its /metrics, /healthz and /readyz are on its own port.

metrics_port 0 (the default) starts no second server, and metrics_port_file gets the gateway's port; any other number
serves the same pages there too, for deployments that keep metrics apart.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from mendloop.core.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway needs beside the shared settings."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
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
    keep_runs: int = Field(10_000, ge=1, description="Most runs held in memory; the oldest finished go first.")
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
