"""Settings of the evaluator that say which server measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from mendloop.cli.deployment import deployment_at
from mendloop.core.contracts import EVALUATOR, SERVICES
from mendloop.evaluator.adapters.serving import serving_of
from mendloop.evaluator.settings import EvaluatorSettings
from mendloop.models.vllm_serving import GivenServer, OwnServer


def test_without_an_address_a_server_is_started_when_needed(tmp_path: Path) -> None:
    settings = EvaluatorSettings(work_dir=tmp_path)

    serving = serving_of(settings, environment={"MENDLOOP_BUS": "local", "PATH": "/bin"})

    assert isinstance(serving, OwnServer)
    assert serving.pid is None
    serving.close()


def test_with_an_address_that_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENDLOOP_VLLM_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setenv("MENDLOOP_VLLM_API_KEY", "secret-key")
    monkeypatch.setenv("MENDLOOP_VLLM_ARGUMENTS", '["--tensor-parallel-size", "4"]')

    settings = EvaluatorSettings.from_environment()
    serving = serving_of(settings, environment={})

    assert isinstance(serving, GivenServer)
    assert serving.client().url == "http://127.0.0.1:8000"
    assert serving.client().api_key == "secret-key"
    assert settings.vllm_arguments == ("--tensor-parallel-size", "4")
    assert "secret-key" not in repr(settings)


def test_only_the_evaluator_of_a_deployment_gets_the_servers_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENDLOOP_VLLM_API_KEY", "secret-key")
    deployment = deployment_at(tmp_path)

    knowing = [name for name in SERVICES if "secret-key" in deployment.environment(name, name=name).values()]

    assert knowing == [EVALUATOR]
