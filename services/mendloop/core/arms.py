"""Control arms as a recipe names them: where each one's examples come from. Knows neither budgets nor plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler

RANDOM, DIRECTLY_SAMPLED, ORACLE = "random", "directly-sampled", "oracle"
Region = Annotated[dict[str, str], Field(min_length=1)]
"""Axis values that all hold, e.g. {verb: jump}."""


class OracleArm(BaseModel):
    """The control that is told where the weakness lies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    oracle: Region | Annotated[list[Region], Field(min_length=1)] = Field(
        description="The weak region as axis values, e.g. {verb: jump}; or several, which share the examples equally."
    )


ArmSetting = Literal["random", "directly-sampled"] | OracleArm


@dataclass(frozen=True, slots=True)
class Arm:
    """A control arm. regions are the oracle's; each is a slice's conditions, sorted."""

    name: str
    regions: tuple[tuple[tuple[str, str], ...], ...] = ()


def arm_of(setting: ArmSetting) -> Arm:
    """The arm that a recipe's entry names."""
    if not isinstance(setting, OracleArm):
        return Arm(setting)
    regions = setting.oracle if isinstance(setting.oracle, list) else [setting.oracle]
    return Arm(ORACLE, tuple(tuple(sorted(region.items())) for region in regions))


def _each_once(settings: Sequence[ArmSetting]) -> Sequence[ArmSetting]:
    names = [arm_of(setting).name for setting in settings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands more than once; an oracle's regions stand together")
    return settings


Arms = Annotated[
    list[ArmSetting],
    AfterValidator(_each_once),
    Field(description="Controls that each data round trains and measures beside its batch, at the same budget each."),
]

Dump = SerializerFunctionWrapHandler
"""What dumps a recipe field by field."""


def without_unused(document: dict[str, Any]) -> dict[str, Any]:
    """A recipe without arms has the bytes, hence the hashes, that it had before there were any."""
    return document if document.get("arms") else {name: value for name, value in document.items() if name != "arms"}
