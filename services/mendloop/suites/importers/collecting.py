"""What an importer gathers: outcomes, and everything that it could not use with its reason. Knows no format."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mendloop.core.errors import InvalidResults
from mendloop.core.records import Outcome
from mendloop.core.stats import Interval, clopper_pearson
from mendloop.steps.checkers import checkers_of, first_wrong

UNKNOWN_COUNT = -1
"""Token count of an outcome whose source does not tell it."""
PROBLEMS_SHOWN = 5

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to read. Empty metric, filter and scorer take the source's first; axes and group name document fields.

    steps: who looks for first wrong steps (mendloop.steps.checkers); empty leaves what the source says.
    """

    answer_after: str = ""
    metric: str = ""
    filter: str = ""
    scorer: str = ""
    axes: tuple[str, ...] = ()
    group: str = ""
    drops_bad_rows: bool = False
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """Outcomes of one evaluation. dropped counts rows that were left out, notes what a reader should know."""

    outcomes: tuple[Outcome, ...]
    formats: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of outcomes with the full score."""
        return sum(row.is_correct for row in self.outcomes) / len(self.outcomes)

    @property
    def accuracy_interval(self) -> Interval:
        """Exact 95 % interval of the accuracy (for one answer an item; repeats of an item are not independent)."""
        return clopper_pearson(sum(row.is_correct for row in self.outcomes), len(self.outcomes))

    @property
    def item_count(self) -> int:
        """Different items."""
        return len({row.item_id for row in self.outcomes})


class BadRow(Exception):
    """A row that is no outcome: the reason groups rows in a count, the text names field, value and what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Collector:
    """Takes outcomes and problems of all files of one evaluation, then gives the result or raises."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._checkers = checkers_of(options.steps)
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        self._places: dict[tuple[str, int], str] = {}
        self._problems: list[tuple[str, str]] = []
        self._dropped: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._formats: dict[str, None] = {}

    def start(self, format_name: str) -> None:
        """A file of this format follows."""
        self._formats[format_name] = None

    def read(self, place: str, make: Callable[[], Outcome | None]) -> None:
        """Take what make gives; a BadRow and a second row of an item become problems with their place."""
        try:
            outcome = make()
            if outcome is None:
                return
            key = (outcome.item_id, outcome.repeat_index)
            if key in self._places:
                raise BadRow(
                    "duplicate id",
                    f"id {key[0]!r}, repeat {key[1]} was read before at {self._places[key]};"
                    " give the repeats their numbers, or keep one evaluation in a file or folder",
                )
        except BadRow as problem:
            self._problems.append((problem.reason, f"{place}: {problem}"))
            return
        self._places[key] = place
        self._outcomes[key] = self._with_steps(outcome) if self._checkers else outcome

    def drop(self, reason: str) -> None:
        """The source itself says that this row holds no measurement."""
        self._dropped[reason] += 1

    def note(self, what: str, count: int = 1) -> None:
        """Count something that changes nothing but should be known."""
        self._notes[what] += count

    def _with_steps(self, outcome: Outcome) -> Outcome:
        try:
            found = first_wrong(outcome.prompt, outcome.output, checkers=self._checkers)
        except ValueError:
            self.note("output whose steps the checker cannot read")
            return outcome
        if found is None:
            return outcome
        return replace(outcome, first_wrong_step=found.step.index, wrong_operation=found.operation)

    def finish(self, path: Path) -> Imported:
        """The result. Raises InvalidResults for bad rows (unless they are to be dropped) and where no row is left."""
        if self._problems and not self.options.drops_bad_rows:
            raise InvalidResults(_listing(path, [text for _, text in self._problems]))
        dropped = self._dropped + Counter(reason for reason, _ in self._problems)
        if not self._outcomes:
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"
            raise InvalidResults(f"{path} holds no outcome ({why}); give a file with at least one scored item")
        return Imported(tuple(self._outcomes.values()), tuple(self._formats), dict(dropped), dict(self._notes))


def json_lines(path: Path, *, on_bytes: OnBytes) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """(place, parse) of every line that is not blank; parse raises BadRow where the line is no JSON object."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            on_bytes(len(line))
            if line.strip():
                yield f"{path.name}:{number}", partial(_object, line)


def checked_score(value: object, *, name: str) -> float:
    """A score of 0..1. Raises BadRow for what is no number, NaN or outside."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float):
        raise BadRow("score is no number", f"field {name!r} is {_short(value)}; a score is a number of 0..1")
    if math.isnan(value):
        raise BadRow("NaN score", f"field {name!r} is NaN; score the item again or leave the field out")
    if not 0 <= value <= 1:
        raise BadRow("score outside 0..1", f"field {name!r} is {value!r}; scale scores to 0..1")
    return float(value)


def checked_target(value: object) -> str:
    """A target that is not empty. Raises BadRow."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    if not text:
        raise BadRow("item without target", f"field 'target' is {_short(value)}; an item needs its right answer")
    return text


def axis_values(document: Mapping[str, Any], options: Options) -> dict[str, tuple[str, ...]]:
    """Document fields as axes, and as the group. Raises BadRow where a field that was asked for is missing."""
    wanted = {name: name for name in options.axes} | ({"group": options.group} if options.group else {})
    axes = {}
    for axis, name in wanted.items():
        if name not in document:
            raise BadRow("missing axis field", f"field {name!r} is asked for; there are {', '.join(document)}")
        axes[axis] = as_values(document[name])
    return axes


def as_values(value: object) -> tuple[str, ...]:
    """A value or a list of them as axis values."""
    return tuple(str(part) for part in value) if isinstance(value, list) else (str(value),)


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # bad JSON and bad UTF-8
        raise BadRow("not JSON", f"not a JSON object: {error}") from error
    if not isinstance(row, dict):
        raise BadRow("not JSON", f"holds {_short(row)}; each line is a JSON object")
    return row


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _listing(path: Path, problems: list[str]) -> str:
    shown = "\n  ".join(problems[:PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
    rows = "row is" if len(problems) == 1 else "rows are"
    return (
        f"{path}: {len(problems)} {rows} no outcome (--skip-bad leaves such rows out and counts them)\n  {shown}{more}"
    )
