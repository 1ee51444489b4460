"""What the OpenAPI description promises, asked with generated requests, good and bad: the gateway keeps it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from gateways import LOCAL_TOKEN, CountingTask, gateway, model_directory
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from run_events import data_run
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance
from waiting import wait_until

from mendloop.gateway.adapters.entrance import Rates
from mendloop.gateway.domain.rates import Rate
from mendloop.submission import submit as submission

NOT_PROMISED = [positive_data_acceptance]
"""A recipe or key may fit its schema and still be impossible, which is 422."""
UNLIMITED = Rates(*[Rate(1e6, 10**6)] * 3)


@pytest.fixture(scope="module")
def api_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("openapi")
    model_directory(folder)
    parts = gateway(folder, is_open=False, rates=UNLIMITED, max_body_bytes=16 * 1024)
    server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, timeout_graceful_shutdown=1))
    with pytest.MonkeyPatch.context() as patch, socket.socket() as listener:
        patch.setattr(submission, "find_task", lambda name, options: CountingTask())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        parts.bus.publish([*data_run("r1"), *data_run("r2")[:10]])
        wait_until(lambda: parts.feed.runs.view("r2"))
        schema = schemathesis.openapi.from_dict(parts.app.openapi())
        schema.config.update(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield schema
        parts.feed.ask_stop()
        server.should_exit = True
        thread.join(timeout=20)


HEADERS = {"Authorization": f"Bearer {LOCAL_TOKEN}"}
FEW = settings(
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
def test_answers_are_those_described(api_schema: Any, mode: GenerationMode) -> None:
    asked = []
    for found in api_schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/v1/events":  # a stream that does not end
            continue

        @FEW
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(headers=HEADERS, timeout=30, excluded_checks=NOT_PROMISED)

        try:
            ask()
        except Unsatisfiable:
            continue  # nothing about it can be wrong
        asked.append(operation.label)
    assert "POST /v1/runs" in asked
    assert len(asked) > 10, asked
