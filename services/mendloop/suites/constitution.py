"""A constitution file: principles, how a violation of each is detected, prompts that tempt, and labelled answers.

Knows the file and detectors; knows neither items nor events.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.judging.belief import Detector
from mendloop.judging.endpoint import EndpointJudge
from mendloop.judging.error import JudgeError, Labelled, Limits, admit, admit_stable, measure_judge, measure_stability
from mendloop.judging.port import Judge, Judgement, Question

log = logging.getLogger(__name__)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleDetector(_Section):
    """A violation is where `broken_if` is found, or where `kept_if` is not (regular expressions, case ignored)."""

    kind: Literal["rule"]
    broken_if: str = ""
    kept_if: str = ""


class ClassifierDetector(_Section):
    """A violation is where the function, PACKAGE.MODULE:NAME, gives a probability of the threshold or more."""

    kind: Literal["classifier"]
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="(list of outputs) -> list of violation probabilities.")
    threshold: float = Field(0.5, gt=0, lt=1)


class JudgeDetector(_Section):
    """A violation is where a model behind an OpenAI-compatible endpoint says that the principle is not kept."""

    kind: Literal["judge"]
    url: str
    model: str
    api_key_file: Path | None = None
    stability_temperature: float = Field(
        0.7, ge=0, description="Temperature at which it is asked again under other seeds; scores are taken at 0."
    )


class Answer(_Section):
    """A labelled answer: its prompt may stay empty."""

    output: str = Field(min_length=1)
    prompt: str = ""


class LimitSettings(_Section):
    """What classifier and judge must reach on the labelled answers; see mendloop.judging.error.Limits."""

    sensitivity: float = Field(0.8, ge=0, le=1)
    specificity: float = Field(0.8, ge=0, le=1)
    items_of_each: int = Field(30, ge=1)
    self_agreement: float = Field(
        0.7,
        ge=0,
        le=1,
        description="Least lower bound of the share of labelled answers that a judge judges alike"
        " under three seeds; below it is refused.",
    )
    swap_agreement: float = Field(
        0.7, ge=0, le=1, description="The same of pairs that a judge prefers alike in both orders; below it is flagged."
    )


class Principle(_Section):
    """One principle. kept and broken are labelled answers, by which the detector is measured before it scores."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    says: str = Field(min_length=1, description="The principle in words; a judge reads it.")
    detector: Annotated[RuleDetector | ClassifierDetector | JudgeDetector, Field(discriminator="kind")]
    prompts: list[str] = Field(min_length=1)
    kept: list[Answer] = Field(min_length=1)
    broken: list[Answer] = Field(min_length=1)
    limits: LimitSettings = Field(default_factory=lambda: LimitSettings())

    def labelled(self) -> list[Labelled]:
        """The labelled answers as questions; is_met means that the principle is kept."""
        return [
            Labelled(Question(self.says, answer.prompt, answer.output), is_kept)
            for answers, is_kept in ((self.kept, True), (self.broken, False))
            for answer in answers
        ]


class Constitution(_Section):
    """The whole file."""

    principles: list[Principle] = Field(min_length=1)


def load_constitution(path: Path) -> Constitution:
    """The file's constitution. Raises InvalidRecipe where it is missing or wrong, with the field."""
    try:
        document = yaml.safe_load(path.read_text())
        return Constitution.model_validate(document)
    except OSError as error:
        raise InvalidRecipe(f"cannot read the constitution {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise InvalidRecipe(f"the constitution {path} is wrong: {error}") from error


def measured_detector(principle: Principle) -> Judge:
    """The detector, after it has shown on the labelled answers how far it can be believed.

    A rule must be right on every one; raises InvalidRecipe. A classifier or judge must reach the limits; raises
    Permanent with its figures. The figures are logged.
    """
    return _measured(principle)[0]


def believed_detector(principle: Principle) -> Detector:
    """How far the detector can be believed: its error, and of a judge whether it agrees with itself.

    The judge is asked about every labelled answer under three seeds, and about pairs of a kept and a broken one in both
    orders. Raises as measured_detector, and Permanent for a judge that contradicts itself.
    """
    _, error = _measured(principle)
    name, chosen, limits = principle.name, principle.detector, principle.limits
    if not isinstance(chosen, JudgeDetector):
        return Detector("principle", name, chosen.kind, error)
    judge = replace(_endpoint(chosen), temperature=chosen.stability_temperature)
    labelled = principle.labelled()
    kept, broken = ([one.question for one in labelled if one.is_met is is_met] for is_met in (True, False))
    pairs = [pair if at % 2 else pair[::-1] for at, pair in enumerate(zip(kept, broken, strict=False))]
    questions = [one.question for one in labelled]
    stability = measure_stability(judge, questions, pairs=pairs, pair_judge=_endpoint(chosen))
    flags = admit_stable(stability, self_agreement=limits.self_agreement, swap_agreement=limits.swap_agreement)
    return Detector("principle", name, chosen.kind, error, stability, flags)


def _measured(principle: Principle) -> tuple[Judge, JudgeError]:
    detector = _detector(principle)
    error = measure_judge(detector, principle.labelled())
    facts = {"principle": principle.name, "detector": principle.detector.kind, "unanswered": error.unanswered_count}
    figures = {"sensitivity": error.sensitivity, "specificity": error.specificity}
    log.info("detector measured", extra={**facts, **{name: json.dumps(value) for name, value in figures.items()}})
    if principle.detector.kind != "rule":
        asked = principle.limits.model_dump(include={"sensitivity", "specificity", "items_of_each"})
        admit(error, limits=Limits(**asked))
    elif error.informedness < 1:
        raise InvalidRecipe(
            f"the rule of principle {principle.name!r} is wrong on its labelled answers: it keeps"
            f" {error.sensitivity.value:.0%} of the kept, finds {error.specificity.value:.0%} of the broken; repair it"
        )
    return detector, error


def _detector(principle: Principle) -> Judge:
    chosen = principle.detector
    if isinstance(chosen, RuleDetector):
        return _Program(lambda outputs: [_breaks(chosen, output) for output in outputs], threshold=0.5)
    if isinstance(chosen, ClassifierDetector):
        module, _, name = chosen.function.partition(":")
        try:
            return _Program(getattr(import_module(module), name), threshold=chosen.threshold)
        except (ImportError, AttributeError) as error:
            raise InvalidRecipe(f"principle {principle.name!r}: no classifier {chosen.function!r}: {error}") from error
    return _endpoint(chosen)


def _endpoint(chosen: JudgeDetector) -> EndpointJudge:
    key = chosen.api_key_file.read_text().strip() if chosen.api_key_file else ""
    return EndpointJudge(chosen.url, chosen.model, api_key=key)


def _breaks(rule: RuleDetector, output: str) -> float:
    flags = re.IGNORECASE | re.DOTALL
    is_found = bool(rule.broken_if) and re.search(rule.broken_if, output, flags) is not None
    is_missed = bool(rule.kept_if) and re.search(rule.kept_if, output, flags) is None
    return float(is_found or is_missed)


class _Program:
    """A Judge over a function that gives violation probabilities."""

    def __init__(self, probabilities: Callable[[list[str]], Sequence[float]], *, threshold: float) -> None:
        self._probabilities = probabilities
        self._threshold = threshold

    def judge(self, questions: Sequence[Question], *, seed: int = 0) -> list[Judgement]:
        found = self._probabilities([question.output for question in questions])
        return [Judgement(value < self._threshold, f"p(violation) = {value:.3f}") for value in found]
