"""Counts what a model is asked, so that each probe's cost is known. Knows the generation port alone."""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.models.generation import Generation, LanguageModel, TokenLogprobs


class MeteredModel:
    """A model that counts tokens: prompt and output of generations, completion and EOS of scored completions."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.token_count = 0

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        """As the model does; counted."""
        outputs = self._model.generate(prompts, max_new_tokens=max_new_tokens, stop=stop)
        self.token_count += sum(one.prompt_token_count + one.output_token_count for one in outputs)
        return outputs

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """As the model does; counted."""
        scored = self._model.logprobs(prompts, completions)
        self.token_count += sum(len(one.tokens) + 1 for one in scored)
        return scored
