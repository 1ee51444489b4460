"""What a task family may offer beside Task; a probe looks for it with isinstance and says where it is absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mendloop.core.records import Axes, Item
from mendloop.core.tasks import Conditions


@runtime_checkable
class Rewording(Protocol):
    """A family that can say a prompt in other words."""

    def rewordings(self, prompt: str) -> Sequence[str]:
        """The prompt in other words with the same answer, the most usual wording first; never the prompt itself."""


@runtime_checkable
class Stepwise(Protocol):
    """A family whose answers have steps."""

    def worked_steps(self, item: Item) -> Sequence[str]:
        """A right output in pieces, in order; together, as they are, they are right. Empty where no steps are known."""


@runtime_checkable
class Operational(Protocol):
    """A family whose scorer names the operation of a wrong step."""

    def operations(self, prompt: str) -> Sequence[str]:
        """The operation of each step of a right answer, in order, as the scorer names them; empty for other prompts."""


@runtime_checkable
class Documented(Protocol):
    """A family whose items need knowledge that can be written down."""

    def background(self, item: Item) -> str:
        """Text with what one must know to solve the item, without the derivation of its answer; empty where unknown."""


@dataclass(frozen=True, slots=True)
class Precept:
    """A principle as a teacher gets to know it. broken: labelled outputs that violate it; no evaluation item."""

    name: str
    says: str
    axes: Axes
    broken: Sequence[str] = ()


@runtime_checkable
class Principled(Protocol):
    """A family whose items are violated or kept principles."""

    def precepts(self, conditions: Conditions) -> Sequence[Precept]:
        """The principles of a slice."""

    def is_kept(self, precept: str, *, prompt: str, output: str) -> bool | None:
        """Whether an output to any prompt keeps a principle, by its measured detector; None where that does not say."""


@runtime_checkable
class Answering(Protocol):
    """A family that knows the right completion of any prompt of its own."""

    def answer(self, prompt: str) -> str:
        """The completion that training data should have; empty for a prompt that is none of the family."""


@runtime_checkable
class Renewing(Protocol):
    """A family that can draw a fresh item like another."""

    def twin(self, item: Item, *, seed: int) -> Item | None:
        """Another item with the same axes and difficulty; None where there is none."""
