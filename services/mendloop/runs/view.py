"""The public names of a run as people see it. What is behind each has its own file."""

from mendloop.runs.document import to_document, to_summary
from mendloop.runs.fold import fold, run_of
from mendloop.runs.log import RunLog
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.stages import STAGES, STATES, StageTime, seconds_by_stage, stage_of, stage_times, state_of

__all__ = [
    "STAGES",
    "STATES",
    "RoundView",
    "RunLog",
    "RunView",
    "StageTime",
    "fold",
    "run_of",
    "seconds_by_stage",
    "stage_of",
    "stage_times",
    "state_of",
    "to_document",
    "to_summary",
]
