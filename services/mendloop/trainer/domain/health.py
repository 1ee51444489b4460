"""Owns the health checks of training data before the first step. Knows token ids and labels; knows no tokenizer.

Each check is one figure with a bound; a failing one says what to set. Checks look at the examples that the training
will see, each once, however often the schedule repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.core.training import HealthCheck
from mendloop.trainer.domain.labels import IGNORED, LabelledExample, LabelledPair

MIN_EOS_SHARE = 0.95
MAX_CUT_SHARE = 0.05
"""A cut example has no EOS, so the two bounds belong together."""
MAX_DUPLICATE_SHARE = 0.25
"""The published SCAN add-prim-jump file repeats one pair up to a tenth of all on purpose; that must pass."""

PromptPair = tuple[Sequence[int], Sequence[int]]
"""Token ids of one prompt in training and in evaluation."""


def health_checks(examples: Sequence[LabelledExample], *, prompts: Sequence[PromptPair]) -> tuple[HealthCheck, ...]:
    """Every check, on examples (at least one) and on the prompts of a sample of them."""
    if not examples:
        raise ValueError("there are no examples to check; a training needs at least one")
    return (
        eos_in_loss(examples),
        label_mask(examples),
        template_parity(prompts),
        truncation(examples),
        duplicates(examples),
        empty_completions(examples),
    )


def text_checks(pieces: Sequence[LabelledExample]) -> tuple[HealthCheck, ...]:
    """The checks of whole texts (at least one piece): every token carries loss, so prompts and cuts do not matter."""
    if not pieces:
        raise ValueError("there are no texts to check; a training needs at least one")
    token_count = sum(piece.token_count for piece in pieces)
    labelled_count = sum(len(piece.labels) - piece.labels.count(IGNORED) for piece in pieces)
    reading = f"{labelled_count} of {token_count} tokens carry loss, in {len(pieces)} pieces of whole texts"
    share = labelled_count / token_count
    return (_check("text_mask", share == 1, share, reading, advice="give whole texts"), duplicates(pieces))


def pair_checks(
    pairs: Sequence[LabelledPair], *, replayed: Sequence[LabelledExample], prompts: Sequence[PromptPair]
) -> tuple[HealthCheck, ...]:
    """The checks of preferences (at least one) and of the examples that are replayed beside them."""
    examples = [*replayed, *(part for pair in pairs for part in (pair.chosen, pair.rejected))]
    checks = [check for check in health_checks(examples, prompts=prompts) if check.name != "duplicates"]
    keys = [(pair.chosen.input_ids, pair.rejected.input_ids) for pair in pairs]
    keys += [(example.input_ids, ()) for example in replayed]
    return (*checks, _repeats(keys), distinct_pairs(pairs))


def failures(checks: Sequence[HealthCheck]) -> str:
    """The readings of the failing checks; empty where all pass."""
    return "; ".join(f"{check.name}: {check.reading}" for check in checks if not check.passed)


def eos_in_loss(examples: Sequence[LabelledExample]) -> HealthCheck:
    """Share of examples whose EOS carries loss: without it the model never learns to stop."""
    count = sum(not example.is_cut and example.labels[-1] != IGNORED for example in examples)
    cut_count = sum(example.is_cut for example in examples)
    share = count / len(examples)
    reading = (
        f"EOS carries loss in {count} of {len(examples)} examples ({share:.1%}; {cut_count} lost it to max_tokens)"
    )
    return _check("eos_in_loss", share >= MIN_EOS_SHARE, share, reading, advice="set eos_in_loss: true")


def label_mask(examples: Sequence[LabelledExample]) -> HealthCheck:
    """Share of completion tokens with loss; prompt tokens must have none."""
    completion_count = completion_labelled = prompt_count = prompt_labelled = 0
    for example in examples:
        prompt, completion = example.labels[: example.prompt_length], _completion(example)
        prompt_count += len(prompt)
        prompt_labelled += len(prompt) - prompt.count(IGNORED)
        completion_count += len(completion)
        completion_labelled += len(completion) - completion.count(IGNORED)
    share = completion_labelled / max(1, completion_count)
    reading = (
        f"{completion_labelled} of {completion_count} completion tokens ({share:.1%}) "
        f"and {prompt_labelled} of {prompt_count} prompt tokens carry loss"
    )
    passed = 0 < completion_count == completion_labelled and prompt_labelled == 0
    return _check("label_mask", passed, share, reading, advice="set prompt_in_loss: false")


def template_parity(prompts: Sequence[PromptPair]) -> HealthCheck:
    """Share of sampled prompts whose token ids are the same in training and in evaluation."""
    same = sum(tuple(trained) == tuple(evaluated) for trained, evaluated in prompts)
    share = same / max(1, len(prompts))
    reading = f"{same} of {len(prompts)} sampled prompts have the same tokens in training and evaluation"
    return _check("template_parity", same == len(prompts) > 0, share, reading, advice="use one template for both")


def truncation(examples: Sequence[LabelledExample]) -> HealthCheck:
    """Share of examples that max_tokens cut."""
    count = sum(example.is_cut for example in examples)
    share = count / len(examples)
    longest = max(len(example.input_ids) for example in examples)
    reading = f"{count} of {len(examples)} examples ({share:.1%}) are cut; the longest kept has {longest} tokens"
    return _check("truncation", share <= MAX_CUT_SHARE, share, reading, advice="raise max_tokens")


def duplicates(examples: Sequence[LabelledExample]) -> HealthCheck:
    """Share of examples that repeat another one, token by token."""
    return _repeats([example.input_ids for example in examples])


def distinct_pairs(pairs: Sequence[LabelledPair]) -> HealthCheck:
    """Share of preferences whose two answers are different tokens; cut ones may have become the same."""
    count = sum(pair.chosen.input_ids != pair.rejected.input_ids for pair in pairs)
    share = count / len(pairs)
    reading = f"{count} of {len(pairs)} preferences ({share:.1%}) have two different answers as tokens"
    return _check("distinct_pairs", count == len(pairs), share, reading, advice="raise max_tokens or drop the others")


def empty_completions(examples: Sequence[LabelledExample]) -> HealthCheck:
    """Share of examples without any completion token."""
    count = sum(not example.has_completion for example in examples)
    share = count / len(examples)
    reading = f"{count} of {len(examples)} examples ({share:.1%}) have no completion token"
    return _check("empty_completions", count == 0, share, reading, advice="raise max_tokens or drop these examples")


def _repeats(keys: Sequence[object]) -> HealthCheck:
    count = len(keys) - len(set(keys))
    share = count / len(keys)
    reading = f"{count} of {len(keys)} examples ({share:.1%}) repeat another one"
    return _check("duplicates", share <= MAX_DUPLICATE_SHARE, share, reading, advice="deduplicate the corpus")


def _completion(example: LabelledExample) -> tuple[int, ...]:
    return example.labels[example.prompt_length : example.completion_end]


def _check(name: str, passed: bool, value: float, reading: str, *, advice: str) -> HealthCheck:
    return HealthCheck(name, passed, value, reading if passed else f"{reading}; {advice}")
