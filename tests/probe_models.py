"""Toy models that a single change of the prompt makes right or wrong, for the probes that make such changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diagnosis_cases import TEMPLATE, ToyModel, answer_of

from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import Probe
from mendloop.models.generation import Generation, Sampling, TokenLogprobs

CONFUSED = "what is that"


@dataclass
class Templated(ToyModel):
    """Understands prompts in one template only; others cost it 3 nats a token."""

    template: str = TEMPLATE

    def _prompt(self, text: str) -> str | None:
        before, after = self.template.split("{prompt}")
        fits = text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)
        prompt = text[len(before) : len(text) - len(after)]
        return prompt if fits and prompt.startswith("take ") else None

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        nats = [self.answer_nats if self._prompt(text) else 3.0 for text in prompts]
        return [
            TokenLogprobs(tuple(-cost for _ in text.split()), -self.eos_nats)
            for cost, text in zip(nats, completions, strict=True)
        ]

    def _generation(self, text: str, limit: int) -> Generation:
        self.prompts.append(text)
        prompt = self._prompt(text)
        words = (self.answers(prompt) if prompt else CONFUSED).split()
        return Generation(" ".join(words[:limit]), len(text.split()), min(limit, len(words) + 1), "eos")


@dataclass
class Continuing(ToyModel):
    """Answers whatever stands after the last "Q: "; what follows "A:" is taken as the answer's beginning."""

    continues: Callable[[str, str], str] = lambda prompt, given: answer_of(prompt)
    """The rest of the answer, from the prompt and what was given of it."""
    draws: Callable[[str, int], str] = lambda prompt, seed: answer_of(prompt)

    def _generation(self, text: str, limit: int) -> Generation:
        prompt, given = text.rsplit("Q: ", 1)[1].split(" A:", 1)
        words = self.continues(prompt, given.strip()).split()
        return Generation(" ".join(words[:limit]), len(text.split()), min(limit, len(words) + 1), "eos")

    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        texts = [text.removeprefix("Q: ").removesuffix(" A:") for text in prompts]
        drawn = [self.draws(text, seed) for text, seed in zip(texts, sampling.seeds, strict=True)]
        return [Generation(text, 5, len(text.split()) + 1, "eos") for text in drawn]


def rows_of(probe: Probe, case: Case) -> dict[tuple[str, str], Evidence]:
    """Evidence of a probe by measurement and sample."""
    return {(row.measurement, row.sample): row for row in probe.run(case)}


def values(probe: Probe, case: Case, *measurements: str) -> list[float]:
    """Values of measurements, the mean of both samples where each has one."""
    rows = probe.run(case)
    found = [[row.value for row in rows if row.measurement == name] for name in measurements]
    return [sum(own) / len(own) for own in found]
