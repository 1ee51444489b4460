"""Settings of the gateway that would leave it open are refused at the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mendloop.gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "0.0.0.0"}, "MENDLOOP_ACCESS is local"),
        ({"tls_cert_file": "cert.pem"}, "set both"),
        ({"cors_origins": ["*"]}, "wildcard"),
        ({"cors_origins": ["https://team.example/page"]}, "must be origins"),
        ({"oidc_issuer": "https://id.example"}, "OIDC_AUDIENCE"),
        ({"oidc_jwks_url": "http://id.example/jwks"}, "https only"),
        ({"oidc_jwks_url": "http://localhost.evil.example/jwks"}, "https only"),
    ],
)
def test_unsafe_setting_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GatewaySettings(**values)


def test_other_machines_reach_a_gateway_with_keys() -> None:
    settings = GatewaySettings(host="0.0.0.0", access="keys")  # type: ignore[call-arg]
    assert not settings.is_loopback
