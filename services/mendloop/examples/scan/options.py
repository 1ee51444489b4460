"""Owns the options of the SCAN task: their names, their values, and what a wrong one is answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mendloop.core.errors import InvalidRecipe
from mendloop.core.tasks import Options
from mendloop.examples.scan.grammar import PRIMITIVES

WHOLE_GRAMMAR = "all"
SPLITS = (WHOLE_GRAMMAR, *(f"add_prim_{primitive}" for primitive in PRIMITIVES))
DOMAINS = ("all", "in_distribution")


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """suite.options. domain: the whole grammar, or only commands of which the split's training part could be."""

    domain: str
    split: str

    @staticmethod
    def of(options: Options) -> SuiteOptions:
        """Checked options; raises InvalidRecipe."""
        _known(options, ("domain", "split"), section="suite.options")
        return SuiteOptions(
            domain=_choice(options, "domain", DOMAINS, default="all", section="suite.options"),
            split=_choice(options, "split", SPLITS, default="add_prim_jump", section="suite.options"),
        )


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """The recipe's corpus. repeat_primitive: how often the bare primitive of the split stands in the corpus."""

    split: str
    repeat_primitive: int

    @staticmethod
    def of(options: Options) -> CorpusOptions:
        """Checked options; raises InvalidRecipe."""
        _known(options, ("split", "repeat_primitive"), section="corpus")
        return CorpusOptions(
            split=_choice(options, "split", SPLITS, default="add_prim_jump", section="corpus"),
            repeat_primitive=_count(options, "repeat_primitive", default=1, section="corpus"),
        )


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The recipe's pool: a random share of the grammar's commands."""

    share: float
    seed: int
    outside: str
    """A split whose training part is left out of the pool; "all" leaves nothing out."""

    @staticmethod
    def of(options: Options) -> PoolOptions:
        """Checked options; raises InvalidRecipe."""
        _known(options, ("share", "seed", "outside"), section="pool")
        share = options.get("share", 0.02)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InvalidRecipe(f"pool.share is {share!r}; give a number above 0, at most 1")
        return PoolOptions(
            share=float(share),
            seed=_count(options, "seed", default=0, section="pool", least=0),
            outside=_choice(options, "outside", SPLITS, default=WHOLE_GRAMMAR, section="pool"),
        )


def withheld_primitive(split: str) -> str:
    """The primitive that a split's training part has only alone; empty for the whole grammar."""
    return "" if split == WHOLE_GRAMMAR else split.removeprefix("add_prim_")


def _known(options: Mapping[str, object], names: tuple[str, ...], *, section: str) -> None:
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise InvalidRecipe(
            f"{section} of task scan has no option {', '.join(map(repr, unknown))}; it has {', '.join(names)}"
        )


def _choice(options: Options, name: str, values: tuple[str, ...], *, default: str, section: str) -> str:
    value = options.get(name, default)
    if not isinstance(value, str) or value not in values:
        raise InvalidRecipe(f"{section}.{name} is {value!r}; give one of {', '.join(values)}")
    return value


def _count(options: Options, name: str, *, default: int, section: str, least: int = 1) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidRecipe(f"{section}.{name} is {value!r}; give a whole number of at least {least}")
    return value
