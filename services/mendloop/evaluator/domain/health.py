"""Owns whether a scorer can be believed: it scores answers whose truth is known before a checkpoint's are scored.

Knows tasks and items; knows neither models nor events. Sealed items are never used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from mendloop.core.errors import Permanent
from mendloop.core.records import Item
from mendloop.core.tasks import Task

SAMPLE_ITEMS = 32
MOST_FAULTS = 0.05
"""Share of references that a sound scorer may get wrong: labels of benchmarks are not perfect."""
FORMS = (
    "{}",
    "The answer is {}.",
    "So the answer is {}.",
    "Answer: {}",
    "#### {}",
    "\\boxed{{{}}}",
    "({})",
    "The best answer is {}",
)
"""Forms in which a right answer is put; a scorer must know one of them."""
OWN = "the family's own references"
_FORMATS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "lower case": str.lower,
    "space around": lambda text: f"  {text}\n",
    "doubled spaces": lambda text: text.replace(" ", "  "),
    "trailing text": lambda text: f"{text}\nThat is all.",
    "trailing stop": lambda text: f"{text}.",
}


class Fault(NamedTuple):
    """One reference that was scored wrongly."""

    kind: str
    item_id: str
    output: str
    score: float
    extraction: str


@dataclass(frozen=True, slots=True)
class ScorerHealth:
    """What the check found. A share is of the references of its kind; form is how right answers were put.

    lost_by_format and won_by_format: right answers in that format that lose full score, wrong ones that get it.
    """

    item_count: int
    form: str
    rejected_right_share: float
    accepted_wrong_share: float
    accepted_empty_share: float
    lost_by_format: dict[str, float]
    won_by_format: dict[str, float]
    faults: tuple[Fault, ...]

    @property
    def is_sound(self) -> bool:
        """Whether right answers are accepted, and wrong, empty and dressed-up wrong ones are not."""
        shares = (self.rejected_right_share, self.accepted_wrong_share, self.accepted_empty_share)
        return max(*shares, *self.won_by_format.values(), 0.0) <= MOST_FAULTS

    def facts(self) -> dict[str, object]:
        """The shares, for logs and lineage."""
        return {name: value for name, value in asdict(self).items() if name != "faults"} | {"is_sound": self.is_sound}


def sample(items: Sequence[Item], *, size: int = SAMPLE_ITEMS) -> list[Item]:
    """Items spread evenly over the ids, none of them sealed; the same items give the same sample."""
    ordered = sorted((item for item in items if item.split != "sealed"), key=lambda item: item.item_id)
    return ordered[:: max(1, math.ceil(len(ordered) / size))]


def check_scorer(task: Task, items: Sequence[Item]) -> ScorerHealth:
    """Scores known-good, known-bad and adversarially formatted references of a sample of the items.

    Wrong are the targets of other items of the sample, where they differ in more than case and space. A family that
    has `reference(item, is_right=...)` makes its references itself (log-likelihoods and principles have no target).
    """
    chosen = sample(items)
    right, wrong = (_own_references(task, chosen, is_right=is_right) for is_right in (True, False))
    if right and wrong:
        return _health(task, right=right, wrong=wrong, form=OWN, is_text=False)
    form = _form(task, chosen)
    right = [(item, form.format(item.target)) for item in chosen]
    wrong = [(item, form.format(other)) for item, other in _others(chosen)]
    return _health(task, right=right, wrong=wrong, form=form, is_text=True)


def refuse_unsound(health: ScorerHealth, *, task_name: str) -> None:
    """Raises Permanent, with the evidence, where the scorer cannot be believed."""
    if health.is_sound:
        return
    shares = {
        "right answers rejected": health.rejected_right_share,
        "wrong answers accepted": health.accepted_wrong_share,
        "empty outputs accepted": health.accepted_empty_share,
        **{f"wrong answers accepted with {name}": share for name, share in health.won_by_format.items()},
    }
    found = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > MOST_FAULTS)
    cases = "; ".join(
        f"{fault.kind} of item {fault.item_id!r}: {fault.output[:80]!r} got {fault.score:g} by {fault.extraction!r}"
        for fault in health.faults[:3]
    )
    raise Permanent(
        f"the scorer of task {task_name!r} failed its check on {health.item_count} items (at most {MOST_FAULTS:.0%} is"
        f" allowed): {found}. {cases}. Repair the task's scorer, filter or targets before anything is measured"
    )


def _health(
    task: Task, *, right: Sequence[tuple[Item, str]], wrong: Sequence[tuple[Item, str]], form: str, is_text: bool
) -> ScorerHealth:
    rejected = list(_faults(task, right, kind="right answer", wants_full=True))
    accepted = list(_faults(task, wrong, kind="wrong answer", wants_full=False))
    empty = list(_faults(task, [(item, "") for item, _ in right], kind="empty output", wants_full=False))
    lost, won, dressed = {}, {}, []
    for name, change in _FORMATS.items() if is_text else ():
        changed = [(item, change(output)) for item, output in right]
        lost[name] = _share(list(_faults(task, changed, kind=name, wants_full=True)), changed)
        bad = [(item, change(output)) for item, output in wrong]
        faults = list(_faults(task, bad, kind=f"wrong answer with {name}", wants_full=False))
        won[name] = _share(faults, bad)
        dressed += faults
    return ScorerHealth(
        item_count=len(right),
        form=form,
        rejected_right_share=_share(rejected, right),
        accepted_wrong_share=_share(accepted, wrong),
        accepted_empty_share=_share(empty, right),
        lost_by_format=lost,
        won_by_format=won,
        faults=(*rejected, *accepted, *empty, *dressed),
    )


def _own_references(task: Task, items: Sequence[Item], *, is_right: bool) -> list[tuple[Item, str]]:
    """What the family's `reference` gives; nothing where it has none, or None for these items."""
    make = getattr(task, "reference", None)
    made = [(item, make(item, is_right=is_right)) for item in items] if make is not None else []
    return [(item, str(output)) for item, output in made if output is not None]


def _form(task: Task, items: Sequence[Item]) -> str:
    """The form in which most right answers get full score; the first of equals."""
    return max(FORMS, key=lambda form: sum(_full(task, item, form.format(item.target)) for item in items))


def _others(items: Sequence[Item]) -> Iterator[tuple[Item, str]]:
    """Each item with the next target that differs from its own in more than case, space and punctuation."""
    plain = [_plain(item.target) for item in items]
    for at, item in enumerate(items):
        following = (*items[at + 1 :], *items[:at])
        names = (*plain[at + 1 :], *plain[:at])
        other = next((o.target for o, name in zip(following, names, strict=True) if name != plain[at]), None)
        if other is not None:
            yield item, other


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum()) or text.strip()


def _faults(task: Task, references: Sequence[tuple[Item, str]], *, kind: str, wants_full: bool) -> Iterator[Fault]:
    for item, output in references:
        try:
            score = task.score(item, output)
        except Exception as error:  # a scorer is foreign code: what it raises is what the check is for
            yield Fault(f"{kind} ({type(error).__name__})", item.item_id, output, 0.0, "error")
            continue
        if (score.value >= 1) != wants_full:
            yield Fault(kind, item.item_id, output, score.value, score.extraction)


def _full(task: Task, item: Item, output: str) -> bool:
    return not list(_faults(task, [(item, output)], kind="", wants_full=True))


def _share(faults: Sequence[Fault], references: Sequence[object]) -> float:
    return len(faults) / len(references) if references else 0.0
