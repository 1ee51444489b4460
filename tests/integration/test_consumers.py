"""The example consumers of docs/consumers read a real broker, each in its own language, and print the same lines."""

from __future__ import annotations

import ast
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from consumer_builds import EXAMPLES, build_go, build_java
from run_events import data_run

from mendloop.bus.kafka import KafkaBus
from mendloop.core.contracts import all_topics, contract_of
from mendloop.v1 import evaluation_pb2

pytestmark = pytest.mark.integration
LINES = [
    "EvalFailed id=r1/5 run=r1 slice=verb=jump accuracy=0/20 low=0.000 high=0.168",
    "EvalFailed id=r1/6 run=r1 slice=turn=right,verb=jump accuracy=0/20 low=0.000 high=0.168",
]
PYTHON = EXAMPLES / "python" / "consumer.py"


@dataclass(frozen=True, slots=True)
class Place:
    """A broker and the topic of EvalFailed on it."""

    bootstrap: str
    topic: str


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str) -> Iterator[Place]:
    """A topic on which a whole run was published."""
    prefix = f"t{secrets.token_hex(4)}."
    bus = KafkaBus(kafka_bootstrap, options={"name_prefix": prefix, "partition_count": "2"})
    bus.ensure_topics(all_topics())
    bus.publish(data_run("r1"))
    yield Place(kafka_bootstrap, prefix + contract_of(evaluation_pb2.EvalFailed).topic)
    bus.close()


def _build_python() -> list[str]:
    return [sys.executable, str(PYTHON)]


@pytest.mark.slow
@pytest.mark.parametrize("build", [_build_python, build_go, build_java], ids=["python", "go", "java"])
def test_consumer_prints_the_failures_of_a_run(build: Callable[[], list[str]], place: Place) -> None:
    command = build()
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP": place.bootstrap,
        "KAFKA_TOPIC": place.topic,
        "KAFKA_GROUP": f"team-{secrets.token_hex(4)}",
        "STOP_AFTER": "2",
    }
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert ran.stdout.splitlines() == LINES


def test_python_consumer_needs_only_the_client_and_protobuf() -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(PYTHON.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    assert names == {"os", "kafka", "mendloop.v1"}
    script = (
        "import sys; from mendloop.v1 import evaluation_pb2; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "torch", "pyarrow", "httpx", "sqlalchemy"} & set(loaded)
