"""What the tests of the deployment need: real tools, built before by `make kube-tools` (a build outlives a test)."""

from __future__ import annotations

import pytest
from deploy.tools import tools

WITHOUT_HELM = frozenset({"test_images.py"})
"""Beside what lies in observe/."""


@pytest.fixture(autouse=True)
def helm_is_built(request: pytest.FixtureRequest) -> None:
    """Skip with the reason where Helm is missing; what else a test needs it asks for itself."""
    if request.path.name not in WITHOUT_HELM and request.path.parent.name != "observe":
        require("helm")


def require(*names: str) -> None:
    """Skip where one of the tools is missing."""
    missing = sorted(set(names) & set(tools().missing()))
    if missing:
        pytest.skip(f"{', '.join(missing)}: not in {tools().root}; `make kube-tools` builds it (needs Go)")
