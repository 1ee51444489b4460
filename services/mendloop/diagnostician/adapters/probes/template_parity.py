"""Was the model trained in another template than the declared one? Compares texts, losses, and outputs.

The other template is chosen by the loss of training examples, never by the failed items that it then has to rescue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from mendloop.core.records import Example
from mendloop.diagnostician.adapters.probes.counterfactual import NO_MODEL, both, cannot, rescued_ids, shares
from mendloop.diagnostician.adapters.probes.token_loss import FEWEST, MOST_NATS, training_sample
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence, exact, measured, missing
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.diagnostician.domain.uncertainty import bootstrap_ratio
from mendloop.models.generation import LanguageModel, TokenLogprobs

NAME = "template_parity"
DIFFERS = "template_differs"
RESCUED = "rescued_share"
GAIN = "corpus_gain_nats"
TRAINED = "the training's template"

Template = Callable[[str], str]

USUAL = ("{prompt}", "Q: {prompt} A:", "Question: {prompt}\nAnswer:", "### Instruction:\n{prompt}\n\n### Response:\n")
"""The bare prompt and templates in wide use; a corpus in none of them needs the training report to be found."""


class TemplateParity:
    """Looks under every known template for the one that the training examples were learnt in."""

    name = NAME
    cost_class = CostClass.GENERATED

    def __init__(self, *, size: int = 24) -> None:
        self._size = size

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Whether the training's template differs; nats an answer token that training examples gain under the best
        other template; per sample the share of failed items that it makes right."""
        differs = _differs(case)
        others = other_templates(case)
        examples = training_sample(case, size=self._size)
        if case.model is None:
            return (differs, missing(NAME, GAIN, reading=NO_MODEL), *cannot(case, NAME, (RESCUED,), NO_MODEL))
        if len(examples) < FEWEST:
            best, gain = next(iter(others)), missing(NAME, GAIN, reading=f"The corpus has {len(examples)} prompts.")
        else:
            best, gain = _gain(case, case.model, examples, others)
        rows = both(case)
        rescued = rescued_ids(case, case.model, rows, [others[best](row.item.prompt) for row in rows])
        words = f"become right in {best} instead of {shown(case.template)!r}."
        return (differs, gain, *shares(case, NAME, RESCUED, rescued, words))


def shown(template: Template) -> str:
    """A template as text, with {prompt} where the prompt goes."""
    return template("{prompt}")


def other_templates(case: Case) -> dict[str, Template]:
    """Known templates that write prompts otherwise than the declared one, by name; the training's own comes first."""
    known: dict[str, Template] = {}
    if case.training and case.training.template:
        known[f"{TRAINED} {shown(case.training.template)!r}"] = case.training.template
    chat = _chat_template(case.weights() if case.weights else None)
    if chat:
        known["the tokenizer's chat template"] = chat
    known |= {f"the template {text!r}": _filled(text) for text in USUAL}
    distinct = {shown(case.template): "declared"}
    for name, template in known.items():
        distinct.setdefault(shown(template), name)
    return {name: known[name] for name in distinct.values() if name != "declared"}


def _filled(text: str) -> Template:
    return lambda prompt: text.replace("{prompt}", prompt)


def _chat_template(directory: Path | None) -> Template | None:
    """The chat template that a checkpoint's tokenizer brings; loaded only where its files name one."""
    if directory is None or not _names_chat_template(directory):
        return None
    tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)

    def fill(prompt: str) -> str:
        turn = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

    return fill


def _names_chat_template(directory: Path) -> bool:
    if any((directory / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    path = directory / "tokenizer_config.json"
    return path.exists() and bool(json.loads(path.read_text()).get("chat_template"))


def _differs(case: Case) -> Evidence:
    trained = case.training.template if case.training else None
    if trained is None:
        return missing(NAME, DIFFERS, reading="The template that the training used is not known.")
    differs = shown(trained) != shown(case.template)
    words = f"the training used {shown(trained)!r}" if differs else "so did the training"
    reading = f"The evaluation puts prompts as {shown(case.template)!r}; {words}."
    return exact(NAME, DIFFERS, float(differs), 1, reading=reading)


def _gain(
    case: Case, model: LanguageModel, examples: Sequence[Example], others: Mapping[str, Template]
) -> tuple[str, Evidence]:
    """The other template with the least loss on training examples, and what it gains over the declared one."""
    templates = {"declared": case.template, **others}
    prompts = [template(row.prompt) for template in templates.values() for row in examples]
    scored = iter(model.logprobs(prompts, [row.completion for row in examples] * len(templates)))
    losses = {name: list(_losses([next(scored) for _ in examples])) for name in templates}
    best = min(others, key=lambda name: sum(loss for loss, _ in losses[name]))
    pairs = list(zip(losses["declared"], losses[best], strict=True))
    counts = [count for (_, count), _ in pairs]
    gain = bootstrap_ratio([old - new for (old, _), (new, _) in pairs], counts, seed=case.seed)
    words = "cheaper" if gain.value >= 0 else "dearer"
    reading = (
        f"The answer tokens of {len(examples)} training examples are {abs(gain.value):.3f} nats each {words} in {best} "
        f"than in the declared template."
    )
    return best, measured(NAME, GAIN, gain, len(examples), reading=reading)


def _losses(scored: Sequence[TokenLogprobs]) -> Iterator[tuple[float, int]]:
    """Nats and number of the answer's tokens."""
    for row in scored:
        yield sum(min(-value, MOST_NATS) for value in row.tokens), max(1, len(row.tokens))
