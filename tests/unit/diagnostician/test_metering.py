"""Counting what a model is asked: every kind of call, both checkpoints, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis_cases import ToyModel

from mendloop.diagnostician.domain.metering import MeteredModel, MeteredSampler, metered
from mendloop.models.generation import Generation, Sampling, SamplingModel

PROMPT = "Q: take thing1 and paint red A:"


class _Drawing(ToyModel):
    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        return self.generate(prompts, max_new_tokens=max_new_tokens)


def test_a_greedy_output_is_paid_for_once() -> None:
    inner = ToyModel()
    model = MeteredModel(inner)
    first = model.generate([PROMPT, PROMPT], max_new_tokens=8)
    paid = model.token_count
    assert model.generate([PROMPT], max_new_tokens=8) == first[:1]
    assert (inner.prompts, model.token_count) == ([PROMPT], paid)
    model.generate([PROMPT], max_new_tokens=2)
    assert model.token_count > paid, "another limit is another question"


def test_draws_pass_and_count_where_the_model_offers_them() -> None:
    drawing, plain = metered(_Drawing()), metered(ToyModel())
    assert isinstance(drawing, MeteredSampler)
    assert isinstance(drawing, SamplingModel)
    assert not isinstance(plain, SamplingModel)
    drawing.sample([PROMPT], sampling=Sampling(0.8, 1.0, (1,)), max_new_tokens=8)
    assert drawing.token_count == len(PROMPT.split()) + 4


def test_no_model_stays_no_model() -> None:
    assert metered(None) is None
