"""What `mend` takes from the environment for itself and for the services that it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mendloop.cli.deployment import deployment_at
from mendloop.core.errors import Permanent


def test_options_of_the_bus_reach_our_own_connection_and_every_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"security_protocol": "SASL_SSL", "sasl_plain_password": "secret", "name_prefix": "team-a."}
    monkeypatch.setenv("MENDLOOP_BUS_OPTIONS", json.dumps(options))
    deployment = deployment_at(tmp_path, bus_url="kafka:127.0.0.1:1")
    for service in ("controller", "trainer"):
        assert json.loads(deployment.environment(service, name=f"{service}-0")["MENDLOOP_BUS_OPTIONS"]) == options
    monkeypatch.setenv("MENDLOOP_BUS_OPTIONS", '{"a_misspelt_option": "1"}')
    with pytest.raises(Permanent, match="a_misspelt_option"):
        _ = deployment_at(tmp_path, bus_url="kafka:127.0.0.1:1").bus()


@pytest.mark.parametrize("text", ["sasl_plain_password=secret", '["secret"]', '{"secret": 1}'])
def test_options_that_are_none_are_refused_without_being_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENDLOOP_BUS_OPTIONS", text)
    with pytest.raises(Permanent, match="MENDLOOP_BUS_OPTIONS is no JSON object of texts") as refusal:
        deployment_at(tmp_path)
    assert "secret" not in str(refusal.value)


def test_without_options_services_get_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MENDLOOP_BUS_OPTIONS", raising=False)
    assert "MENDLOOP_BUS_OPTIONS" not in deployment_at(tmp_path).environment("trainer", name="trainer-0")
