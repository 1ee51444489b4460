"""What the tests of the deployment need: the real tools, built once. Where they cannot be built, tests say why."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from deploy.tools import build, tools


@pytest.fixture(scope="session", autouse=True)
def built_tools() -> None:
    """Build what is missing; skip with the reason where that is impossible."""
    missing = tools().missing()
    if not missing:
        return
    if shutil.which("go") is None:
        pytest.skip(f"{', '.join(missing)} are not in {tools().root} and there is no go on the PATH to build them")
    try:
        build(tools())
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{', '.join(missing)} could not be built: {error}; see the output of `make kube-tools`")
