"""A toy task family with models that fail in one known way each, and cases built from what they really answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from builders import recipe

from mendloop.core.records import Axes, Example, Item, Outcome, Score
from mendloop.core.tasks import Conditions, Options
from mendloop.diagnostician.adapters.probes.longer_budget import LongerBudget
from mendloop.diagnostician.adapters.probes.open_book import OpenBook
from mendloop.diagnostician.adapters.probes.token_loss import TokenLoss
from mendloop.diagnostician.adapters.probes.training_fit import TrainingFit
from mendloop.diagnostician.domain.case import Case, Training, draw_samples
from mendloop.diagnostician.domain.probes.corpus_coverage import CorpusCoverage
from mendloop.diagnostician.domain.probes.forced_stop import ForcedStop
from mendloop.diagnostician.domain.probes.label_audit import LabelAudit
from mendloop.diagnostician.domain.probes.rescoring import Rescoring
from mendloop.diagnostician.domain.probing import Findings, Probe, investigate
from mendloop.diagnostician.domain.verdict import Verdict, is_clear, judge
from mendloop.models.generation import Generation, LanguageModel, TokenLogprobs

COLOURS = ("red", "green", "blue", "grey", "pink")
THING_COUNT = 80
TEMPLATE = "Q: {prompt} A:"
GREEN = (("colour", "green"),)


def prompt_of(thing: int, colour: str) -> str:
    return f"take thing{thing} and paint {colour}"


def answer_of(prompt: str) -> str:
    """The right answer: three words."""
    words = prompt.split()
    return f"{words[1]} {words[4]} done"


def axes_of(prompt: str) -> Axes:
    words = prompt.split()
    return {"colour": (words[4],), "size": ("big" if int(words[1][5:]) % 2 else "small",)}


def all_items() -> list[Item]:
    """Forty items a colour: the even half of the things in pairs."""
    prompts = [prompt_of(thing, colour) for colour in COLOURS for thing in range(THING_COUNT) if thing % 4 < 2]
    return [
        Item(f"i{at}", text, answer_of(text), "confirm" if at % 3 == 0 else "search", axes=axes_of(text))
        for at, text in enumerate(prompts)
    ]


def corpus_of(*, per_colour: Mapping[str, int] | None = None) -> list[Example]:
    """Training examples, none of them an item: forty a colour unless said otherwise."""
    wanted = dict.fromkeys(COLOURS, 40) | dict(per_colour or {})
    rows = []
    for colour in COLOURS:
        things = [thing for thing in range(THING_COUNT) if thing % 4 >= 2][: wanted[colour]]
        rows += [prompt_of(thing, colour) for thing in things]
    # each thing is named in some prompt, so that only a colour can be new
    rows += [prompt_of(thing, "white") for thing in range(THING_COUNT)]
    return [Example(text, answer_of(text), "corpus", axes=axes_of(text)) for text in rows]


class ToyTask:
    """A task family whose first scorer wants the exact text, its second one the right words in any dress."""

    stop_strings: tuple[str, ...] = ()

    def __init__(self, options: Options | None = None, *, extracts: bool = True) -> None:
        self._wrong = "exact" if extracts else "none"

    def corpus(self, options: Options) -> list[Example]:
        return corpus_of()

    def pool(self, options: Options) -> list[Example]:
        return []

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        return all_items()

    def annotate(self, prompt: str) -> Axes:
        return axes_of(prompt)

    def score(self, item: Item, output: str) -> Score:
        return Score(1.0, "exact") if output == item.target else Score(0.0, self._wrong)

    def rescore(self, item: Item, output: str) -> Score:
        words = " ".join(re.findall(r"\w+", output.lower()))
        return Score(float(words == item.target), "lenient")

    def verify(self, prompt: str, answer: str) -> bool:
        return answer == answer_of(prompt)

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        return iter(())


@dataclass
class ToyModel:
    """Answers by rule. A token is a word; EOS counts as one."""

    answers: Callable[[str], str] = answer_of
    never_stops: Callable[[str], bool] = lambda prompt: False
    eos_nats: float = 0.01
    answer_nats: float = 0.01
    prompts: list[str] = field(default_factory=list)
    """Every prompt that was put to the model."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        self.prompts += prompts
        return [self._generation(text, max_new_tokens) for text in prompts]

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        self.prompts += prompts
        return [TokenLogprobs(tuple(-self.answer_nats for _ in text.split()), -self.eos_nats) for text in completions]

    def _generation(self, text: str, limit: int) -> Generation:
        prompt = text.rsplit("Q: ", 1)[1].removesuffix(" A:")
        words = self.answers(prompt).split()
        if self.never_stops(prompt):
            words = (words * limit)[:limit]
        count = len(words) + 1
        if count > limit:
            return Generation(" ".join(words[:limit]), len(text.split()), limit, "length")
        return Generation(" ".join(words), len(text.split()), count, "eos")


def wrong_on(colour: str) -> Callable[[str], str]:
    """Right answers for every colour but one, which the model takes for another."""
    return lambda prompt: answer_of(prompt.replace(f"paint {colour}", "paint blue"))


def outcomes_of(model: LanguageModel, task: ToyTask, items: Sequence[Item], *, max_new_tokens: int) -> list[Outcome]:
    """What an evaluation of the model gives."""
    outputs = model.generate([TEMPLATE.format(prompt=row.prompt) for row in items], max_new_tokens=max_new_tokens)
    rows = []
    for item, output in zip(items, outputs, strict=True):
        score = task.score(item, output.text)
        rows.append(
            Outcome(
                item_id=item.item_id,
                split=item.split,
                prompt=item.prompt,
                output=output.text,
                target=item.target,
                score=score.value,
                prompt_token_count=output.prompt_token_count,
                output_token_count=output.output_token_count,
                stop_reason=output.stop_reason,
                extraction=score.extraction,
                target_logprob=-1.0,
                repeat_index=0,
                axes=item.axes,
            )
        )
    return rows


def case_of(
    model: ToyModel,
    *,
    conditions: Conditions = GREEN,
    corpus: Sequence[Example] | None = None,
    task: ToyTask | None = None,
    max_new_tokens: int = 8,
    training: Training | None = None,
    has_model: bool = True,
    items: Sequence[Item] | None = None,
) -> Case:
    """The case of one slice: the model is really asked for every item."""
    task, items = task or ToyTask(), items if items is not None else all_items()
    outcomes = outcomes_of(model, task, items, max_new_tokens=max_new_tokens)
    model.prompts.clear()
    failed = [row for row in outcomes if not row.is_correct and all(v in row.axes[a] for a, v in conditions)]
    suite = {"axes": ["colour"], "max_new_tokens": max_new_tokens}
    return Case(
        conditions=conditions,
        samples=draw_samples(outcomes, {row.item_id: row for row in items}, conditions, seed=7),
        failed_count=len(failed),
        corpus=tuple(corpus_of() if corpus is None else corpus),
        task=task,
        template=lambda text: TEMPLATE.format(prompt=text),
        suite=recipe(suite=suite).suite,
        model=model if has_model else None,
        training=training,
        seed=7,
    )


def all_probes() -> tuple[Probe, ...]:
    return (
        LabelAudit(),
        ForcedStop(),
        Rescoring(),
        CorpusCoverage(),
        TokenLoss(),
        TrainingFit(),
        LongerBudget(),
        OpenBook(),
    )


def diagnose(case: Case) -> tuple[Verdict, Findings]:
    """Every probe as the service runs it, and the verdict."""
    findings = investigate(case, all_probes(), is_clear=is_clear, clock=lambda: 0.0)
    return judge(findings.evidence), findings
