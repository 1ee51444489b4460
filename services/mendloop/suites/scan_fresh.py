"""SCAN as a drawn suite: other commands of the grammar for each draw. An example of a suite by decorator."""

from __future__ import annotations

import random
from collections.abc import Iterator

from mendloop.core.records import Item, Score
from mendloop.core.tasks import Options
from mendloop.examples.scan.axes import annotated_commands
from mendloop.examples.scan.task import ScanTask
from mendloop.suites.dynamic import Question, suite

_SCAN = ScanTask({})


def _rescore(item: Item, output: str) -> Score:
    return _SCAN.rescore(item, output)


@suite(rescorer=_rescore)
def scan_fresh(options: Options, rng: random.Random) -> Iterator[Question]:
    """Every command of the grammar once, in the order of the seed."""
    commands = list(annotated_commands())
    rng.shuffle(commands)
    for command in commands:
        yield Question(command.command, command.actions, axes=command.axes)
