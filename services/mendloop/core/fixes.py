"""Settings that an intervention repairs. Knows dotted names; knows not why they are wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mendloop.core.errors import Permanent
from mendloop.core.recipe import Recipe, TrainSettings

TRAIN = "train."
SUITE = "suite."


@dataclass(frozen=True, slots=True)
class Fix:
    """One repaired setting, e.g. train.eos_in_loss = true. The value is JSON."""

    setting: str
    value_json: str

    def __post_init__(self) -> None:
        if not self.setting.startswith((TRAIN, SUITE)):
            raise ValueError(f"fix of {self.setting!r}: a fix names train.* or suite.*")

    def __str__(self) -> str:
        return f"{self.setting}={self.value_json}"


def repaired_training(settings: TrainSettings, fixes: Sequence[Fix]) -> TrainSettings:
    """The settings with every train.* fix applied. Raises Permanent for an unknown name or an impossible value."""
    patched = _patched(settings.model_dump(mode="json"), fixes, prefix=TRAIN)
    try:
        return TrainSettings.model_validate(patched)
    except ValidationError as error:
        raise Permanent(f"the fix {', '.join(map(str, fixes))} makes impossible training settings: {error}") from error


def repaired_recipe(recipe: Recipe, fixes: Sequence[Fix]) -> Recipe:
    """The recipe with every suite.* fix applied. Raises Permanent for an unknown name or an impossible value."""
    document = recipe.model_dump(mode="json")
    document["suite"] = _patched(document["suite"], fixes, prefix=SUITE)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise Permanent(f"the fix {', '.join(map(str, fixes))} makes an impossible recipe: {error}") from error


def _patched(document: dict[str, object], fixes: Sequence[Fix], *, prefix: str) -> dict[str, object]:
    patched = dict(document)
    for fix in fixes:
        name = fix.setting.removeprefix(prefix)
        if name == fix.setting:
            continue
        if name not in patched:
            raise Permanent(f"the fix {fix} names no setting; {prefix}* are {', '.join(sorted(patched))}")
        patched[name] = json.loads(fix.value_json)
    return patched
