"""A run as the command line sees it now."""

from __future__ import annotations

from mendloop.cli.deployment import Deployment
from mendloop.core.errors import Permanent
from mendloop.runs.log import RunLog
from mendloop.runs.model import RunView


def view_of(target: Deployment, run_id: str) -> RunView:
    """The view of a run. Raises Permanent for an unknown one, with those that there are."""
    log = RunLog(target.bus(), store=target.store())
    log.refresh()
    view = log.view(run_id)
    if view is None:
        raise Permanent(f"there is no run {run_id!r}; known are {', '.join(v.run_id for v in log.views()) or 'none'}")
    return view
