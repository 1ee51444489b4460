"""The sections of a recipe that say who else makes examples and who judges them: teacher, second judge, student."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mendloop.core.sections import Section, Share

CAUSES = frozenset(
    {"data_missing", "data_skew", "knowledge_gap", "reasoning_gap", "data_corrupted", "phrasing_mismatch"}
)
"""Causes for which data is made, as diagnoses name them."""


class TeacherJudgeSettings(Section):
    """Another model that must accept a new answer where no program verifies. Its own error is measured first."""

    url: str = Field(description="OpenAI-compatible endpoint, e.g. http://HOST:PORT/v1.")
    model: str = Field(description="Name of the model there; another one than the teacher's.")
    api_key_file: Path | None = Field(None, description="File with the endpoint's key, where the services run.")
    items: int = Field(30, ge=10, le=1000, description="Right and wrong answers of the corpus, each, to measure it on.")
    sensitivity: Share = Field(0.8, description="Right answers that it must accept: lower end of the 95 % interval.")
    specificity: Share = Field(0.8, description="Wrong answers that it must refuse: lower end of the 95 % interval.")
    max_tokens: int = Field(8, ge=1, description="Most tokens of one verdict.")


class TeacherSettings(Section):
    """A language model that makes examples for weak slices from seeds of the corpus. Default: the run has none."""

    url: str = Field(description="OpenAI-compatible endpoint, e.g. http://HOST:PORT/v1.")
    model: str = Field(description="Name of the model there.")
    api_key_file: Path | None = Field(None, description="File with the endpoint's key, where the services run.")
    ways: list[Literal["write", "rewrite"]] = Field(
        ["write"],
        min_length=1,
        description="New examples like the seeds; or prompts of seeds in other words. In order.",
    )
    asked: Literal["first", "last", "alone"] = Field(
        "last", description="Before pool and task family, only for what those leave open, or instead of them."
    )
    temperature: float = Field(0.8, ge=0, description="Of what it writes and answers.")
    max_tokens: int = Field(1024, ge=1, description="Most tokens of one reply.")
    token_limit: int = Field(500_000, ge=1, description="Most tokens that it generates for one plan.")
    timeout_s: float = Field(60.0, gt=0, description="Seconds that a reply may take.")
    attempts: int = Field(3, ge=1, le=10, description="How often a question is put to an endpoint that is away.")
    concurrency: int = Field(4, ge=1, le=256, description="Questions at a time.")
    shots: int = Field(4, ge=1, le=32, description="Examples of the corpus that it sees at a time.")
    variants_per_seed: int = Field(4, ge=1, le=32, description="Most examples made from one seed in a round.")
    tries_per_seed: int = Field(2, ge=1, le=10, description="Replies of which none can be read end a seed.")
    fruitless_limit: int = Field(40, ge=1, description="Dropped candidates in a row that end it for a slice.")
    violations: Literal["teacher", "student"] = Field(
        "teacher", description="Who gives the answers that break a principle: it, or the checkpoint that failed."
    )
    answers: int = Field(
        3, ge=2, le=32, description="Times that it answers a new prompt itself where no program verifies answers."
    )
    agreement: float = Field(0.6, gt=0.5, le=1, description="Share of those answers that must be the written one.")
    judge: TeacherJudgeSettings | None = Field(
        None, description="A second judge of answers that agree, where no program verifies. Default: none."
    )


class StudentWindow(Section):
    """Keep only examples that the failing checkpoint solves sometimes: neither never nor always. Default: no window.

    It says nothing where the data is missing: there every example is unsolved, and all of them are needed.
    """

    low: Share = Field(0.125, description="Least pass rate.")
    high: Share = Field(0.875, description="Greatest pass rate.")
    samples: int = Field(8, ge=2, le=256, description="Outputs drawn of a candidate.")
    temperature: float = Field(1.0, gt=0, description="At which they are drawn.")
    causes: list[str] = Field(["reasoning_gap"], description="Causes of weakness for whose slices it applies.")

    @model_validator(mode="after")
    def _check_order(self) -> StudentWindow:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high {self.high}: no pass rate lies between; exchange them")
        unknown = sorted(set(self.causes) - CAUSES)
        if unknown:
            raise ValueError(f"causes has {', '.join(unknown)}; known are {', '.join(sorted(CAUSES))}")
        return self
