"""Every query of every dashboard, asked of a real Prometheus that scraped the real services during a demo."""

from __future__ import annotations

import pytest
from board_queries import empty_queries
from demo_run import Demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_every_dashboard_query_returns_data_of_a_demo(demo: Demo) -> None:
    if demo.scraped is None:
        pytest.skip("needs Debian's package prometheus: apt-get install prometheus prometheus-alertmanager")
    seen = demo.scraped
    assert empty_queries(seen.monitoring, start=seen.started_at, end=seen.ended_at) == []
