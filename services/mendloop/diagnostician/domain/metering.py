"""Counts what a model is asked, so that each probe's cost is known. Knows the generation port alone."""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.models.generation import Generation, LanguageModel, Sampling, SamplingModel, TokenLogprobs


class MeteredModel:
    """A model that counts tokens: prompt and output of generations, completion and EOS of scored completions.

    What was asked before, and is not random, is remembered and costs nothing: probes share training examples.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._known: dict[tuple[str, int, tuple[str, ...]], Generation] = {}
        self._scored: dict[tuple[str, str], TokenLogprobs] = {}
        self.token_count = 0

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        """As the model does; what is new is counted."""
        keys = [(prompt, max_new_tokens, tuple(stop)) for prompt in prompts]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if new:
            outputs = self._model.generate([key[0] for key in new], max_new_tokens=max_new_tokens, stop=stop)
            self._count(outputs)
            self._known |= dict(zip(new, outputs, strict=True))
        return [self._known[key] for key in keys]

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """As the model does; what is new is counted."""
        keys = list(zip(prompts, completions, strict=True))
        new = list(dict.fromkeys(key for key in keys if key not in self._scored))
        if new:
            scored = self._model.logprobs([prompt for prompt, _ in new], [completion for _, completion in new])
            self.token_count += sum(len(one.tokens) + 1 for one in scored)
            self._scored |= dict(zip(new, scored, strict=True))
        return [self._scored[key] for key in keys]

    def _count(self, outputs: Sequence[Generation]) -> None:
        self.token_count += sum(one.prompt_token_count + one.output_token_count for one in outputs)


class MeteredSampler(MeteredModel):
    """A metered model that also draws outputs at random."""

    def __init__(self, model: SamplingModel) -> None:
        super().__init__(model)
        self._sampler = model

    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """As the model does; counted."""
        outputs = self._sampler.sample(prompts, sampling=sampling, max_new_tokens=max_new_tokens, stop=stop)
        self._count(outputs)
        return outputs


def metered(model: LanguageModel | None) -> MeteredModel | None:
    """The model with a counter, which draws at random exactly where the model does; None stays None."""
    if model is None:
        return None
    return MeteredSampler(model) if isinstance(model, SamplingModel) else MeteredModel(model)
