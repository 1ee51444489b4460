"""What families share whose prompts are drawn from a grammar: options of a corpus, items of several splits.

Knows options and counts; knows no grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Item, Split
from mendloop.core.tasks import Options

Drawn = TypeVar("Drawn")
Chosen = TypeVar("Chosen", bound=BaseModel)


class DrawnCorpus(BaseModel):
    """The recipe's corpus, and its pool: how many examples of which random state."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(4000, ge=1)
    seed: int = 0


def checked(kind: type[Chosen], options: Options, *, section: str, task: str) -> Chosen:
    """The options of a section, e.g. suite.options. Raises InvalidRecipe with everything that is wrong."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        raise InvalidRecipe(f"{section} of task {task}: {error}") from error


def split_items(
    drawn: Iterator[Drawn], counts: Mapping[str, int], *, item_of: Callable[[Drawn, Split], Item]
) -> list[Item]:
    """The first of what is drawn as items, split after split. Raises InvalidRecipe where there are not as many."""
    wanted = sum(counts.values())
    rows = list(islice(drawn, wanted))
    if len(rows) < wanted:
        raise InvalidRecipe(f"the suite asks for {wanted} items, there are {len(rows)}; lower search or confirm")
    splits = [split for split, count in counts.items() for _ in range(count)]
    return [item_of(row, cast(Split, split)) for row, split in zip(rows, splits, strict=True)]
