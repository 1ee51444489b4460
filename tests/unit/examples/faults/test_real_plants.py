"""One real plant of each kind on a shipped family: the slice is right when healthy and weak with the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from mendloop.examples.faults.planning import Planting, Spec
from mendloop.examples.faults.planting import plant
from mendloop.examples.faults.registry import find_family

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Healthy checkpoints that the tests share."""
    return tmp_path_factory.mktemp("healthy")


@pytest.mark.parametrize("name", ["missing", "labels-masked", "wrong-targets", "too-small"])
def test_a_fault_of_each_side_bites_on_facts(name: str, tmp_path: Path, cache: Path) -> None:
    planted = plant(find_family("facts"), Spec("facts", (Planting(name, 1.0),), 0), out_dir=tmp_path, cache=cache)

    assert planted.healthy_accuracy > 0.9
    assert planted.accuracy < 0.5
    assert planted.bites
