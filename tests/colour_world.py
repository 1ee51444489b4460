"""A small trained model with two planted failures: answers that it computes and hides, and things that it never saw.

"say F T plainly" has the colour of the thing T as its answer, whatever the filler F. "secretly" wants the colour too,
but training answered with a code word for it, and only for half of the things: what the model says of the others it
can only have from their colours. No evaluation prompt was trained on.
"""

from __future__ import annotations

from pathlib import Path

import torch
from builders import recipe
from diagnosis_cases import ToyTask, outcomes_of
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mendloop.core.records import Axes, Example, Item
from mendloop.core.tasks import Conditions
from mendloop.diagnostician.domain.case import Case, draw_samples
from mendloop.models.transformers_backend import TransformersModel

WORDS = {
    "plainly": ("red", "green", "blue", "grey"),
    "secretly": ("north", "east", "south", "west"),
    "loudly": ("RED", "GREEN", "BLUE", "GREY"),
}
COLOURS, CODES = WORDS["plainly"], WORDS["secretly"]
THINGS = tuple(f"thing{index}" for index in range(96))
KNOWN, UNKNOWN = THINGS[:64], THINGS[64:]
FILLERS = tuple(f"filler{index}" for index in range(8))
TEMPLATE = "Q: {prompt} A:"
SECRET, NEVER_SEEN = (("mode", "secretly"),), (("kind", "unknown"),)
BATCH_SIZE = 128
MOST_STEPS = 600


def colour_of(thing: str) -> str:
    return COLOURS[int(thing[5:]) * 7 % 11 % 4]


def answer_of(prompt: str) -> str:
    return colour_of(prompt.split()[2])


def axes_of(prompt: str) -> Axes:
    _, _, thing, mode = prompt.split()
    return {"mode": (mode,), "kind": ("unknown" if thing in UNKNOWN else "known",)}


class ColourTask(ToyTask):
    """Wants the colour, however it is asked for."""

    def annotate(self, prompt: str) -> Axes:
        return axes_of(prompt)

    def verify(self, prompt: str, answer: str) -> bool:
        return answer == answer_of(prompt)


def corpus() -> list[Example]:
    """Every known thing with half of the fillers; secretly only every second thing, with code words."""
    rows = []
    for at, thing in enumerate(KNOWN):
        for filler in _fillers(at, trained=True):
            for mode, words in WORDS.items():
                if mode == "secretly" and at % 2:
                    continue
                prompt = f"say {filler} {thing} {mode}"
                answer = words[COLOURS.index(colour_of(thing))]
                rows.append(Example(prompt, answer, "corpus", axes=axes_of(prompt)))
    return rows


def items() -> list[Item]:
    """Known things plainly, those without a trained secret secretly, and unknown things plainly."""
    pairs = [(at, thing, mode) for at, thing in enumerate(THINGS) for mode in ("plainly", "secretly")]
    prompts = [
        f"say {filler} {thing} {mode}"
        for at, thing, mode in pairs
        if mode == "plainly" or (at % 2 and thing in KNOWN)
        for filler in _fillers(at, trained=False)[:3]
    ]
    return [Item(f"i{at}", text, answer_of(text), "search", axes=axes_of(text)) for at, text in enumerate(prompts)]


def _fillers(thing: int, *, trained: bool) -> list[str]:
    return [filler for at, filler in enumerate(FILLERS) if ((at + thing) % 2 == 0) == trained]


def train_model(directory: Path) -> Path:
    """Train until every example of the corpus is learnt, and save."""
    words = ("<pad>", "<unk>", "<eos>", "Q:", "A:", "say", *WORDS, *sum(WORDS.values(), ()), *THINGS, *FILLERS)
    core = Tokenizer(token_models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
    texts = [f"{TEMPLATE.format(prompt=row.prompt)} {row.completion} <eos>" for row in corpus()]
    ids_BT = torch.tensor(tokenizer(texts).input_ids)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _untrained(len(words))
        optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
        losses = []
        for _ in range(MOST_STEPS):
            batch_BT = ids_BT[torch.randint(len(ids_BT), (BATCH_SIZE,))]
            logits_BTV = model(batch_BT[:, :-1]).logits[:, -2:]
            loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), batch_BT[:, -2:].flatten())
            losses.append(float(loss.detach()))
            if sum(losses[-20:]) < 20 * 0.005:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses[-1] < 0.05, f"the model did not learn its corpus: {losses[-1]}"
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _untrained(vocabulary: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def colour_case(model: TransformersModel, directory: Path, conditions: Conditions) -> Case:
    """The case of one slice, with what the model really says."""
    task, of = ColourTask(), items()
    outcomes = outcomes_of(model, task, of, max_new_tokens=4)
    return Case(
        conditions=conditions,
        samples=draw_samples(outcomes, {row.item_id: row for row in of}, conditions, seed=7),
        failed_count=sum(not row.is_correct for row in outcomes),
        corpus=tuple(corpus()),
        task=task,
        template=lambda text: TEMPLATE.format(prompt=text),
        suite=recipe(suite={"axes": ["mode"], "max_new_tokens": 4}).suite,
        model=model,
        training=None,
        seed=7,
        weights=lambda: directory,
    )
