"""The corpus passes on a local Ray with two workers give what one process gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpora import InlineEngine, everything_by, mixed_rows

from mendloop.passes.engine import Engine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: uv pip install 'mendloop[ray]'"
    ),
]
ATTEMPTS = 3
ROWS = mixed_rows(300, seed=1)


@pytest.fixture(scope="module")
def ray_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    import ray

    from mendloop.passes.ray_engine import RayEngine

    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=80 * 2**20,
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                configure_logging=False,
            )
            break
        except Exception as error:  # Ray raises a bare one where its processes are not up within 30 s
            ray.shutdown()
            if attempt == ATTEMPTS - 1 or "timed out during startup" not in str(error):
                raise
    yield RayEngine()
    ray.shutdown()


def test_every_pass_gives_the_same_rows_and_counts_on_ray_and_in_one_process(
    ray_engine: Engine, tmp_path: Path
) -> None:
    on_ray = everything_by(ray_engine, tmp_path / "ray", rows=ROWS)

    assert on_ray == everything_by(InlineEngine(), tmp_path / "here", rows=ROWS)
