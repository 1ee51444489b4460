"""A loaded checkpoint as a judge. Knows the generation port; knows no criterion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.judging.port import Choice, Judgement, Question, judge_prompt, pair_prompt, read_choice, read_judgement
from mendloop.models.generation import LanguageModel


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """A Judge and PairJudge over a LanguageModel. Its outputs are greedy, so that every seed gives the same answer."""

    model: LanguageModel
    template: str = "{prompt}"
    max_new_tokens: int = 8

    def judge(self, questions: Sequence[Question], *, seed: int = 0) -> list[Judgement]:
        """One greedy verdict each."""
        return [read_judgement(said) for said in self._said([judge_prompt(question) for question in questions])]

    def prefer(self, questions: Sequence[tuple[Question, Question]]) -> list[Choice | None]:
        """One greedy preference each."""
        return [read_choice(said) for said in self._said([pair_prompt(*pair) for pair in questions])]

    def _said(self, prompts: list[str]) -> list[str]:
        filled = [self.template.format(prompt=prompt) for prompt in prompts]
        outputs = self.model.generate(filled, max_new_tokens=self.max_new_tokens, stop=("\n",))
        return [output.text for output in outputs]
