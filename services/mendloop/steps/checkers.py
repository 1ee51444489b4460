"""Step checkers by name, as recipes and commands choose them, and the first wrong step as part of a score.

Knows the checkers that ship; a process-reward model comes by its place in a Python module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Annotated

from pydantic import BeforeValidator

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Score
from mendloop.steps.arithmetic import ArithmeticChecker
from mendloop.steps.scan import ScanChecker
from mendloop.steps.supervision import RewardChecker, StepChecker, StepVerdict, supervise

CHECKERS: dict[str, Callable[[], StepChecker]] = {"arithmetic": ArithmeticChecker, "scan": ScanChecker}


def _listed(value: object) -> object:
    return ([value] if value else []) if isinstance(value, str) else value


StepNames = Annotated[list[str], BeforeValidator(_listed)]
"""suite.options.steps: one name or several, the later ones asked where the earlier do not know."""
DESCRIPTION = (
    "Who looks for the first wrong step of an output: arithmetic (annotations <<a+b=c>> and equations), scan, or"
    " PACKAGE.MODULE:NAME, a function without arguments that gives a process-reward model. Empty: nobody."
)


def checkers_of(names: Sequence[str]) -> tuple[StepChecker, ...]:
    """The checkers of these names, in their order. Raises InvalidRecipe for one that is not there."""
    return tuple(_checker(name) for name in names)


def first_wrong(prompt: str, output: str, *, checkers: Sequence[StepChecker]) -> StepVerdict | None:
    """The verdict on the first wrong step; None where no checker sees a wrong one or none is given.

    Raises ValueError where a checker cannot read the prompt, or a reward model gives no probability for each step.
    """
    return supervise(prompt, output, checkers=checkers).first_wrong if checkers else None


def with_steps(score: Score, *, prompt: str, output: str, checkers: Sequence[StepChecker]) -> Score:
    """The score with the output's first wrong step; of a right output too, as it may be right for a wrong reason."""
    found = first_wrong(prompt, output, checkers=checkers)
    if found is None:
        return score
    return replace(score, first_wrong_step=found.step.index, wrong_operation=found.operation)


def _checker(name: str) -> StepChecker:
    if name in CHECKERS:
        return CHECKERS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InvalidRecipe(f"steps: {name!r} is no checker; choose {', '.join(CHECKERS)} or PACKAGE.MODULE:NAME")
    try:
        return RewardChecker(getattr(import_module(module), attribute)())
    except (ImportError, AttributeError, TypeError) as error:
        raise InvalidRecipe(f"steps: no process-reward model {name!r}: {error}") from error
