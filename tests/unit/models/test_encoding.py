"""How prompt and completion join as tokens: the prompt's ids never depend on what follows."""

from __future__ import annotations

import pytest
from tiny_models import byte_pair_tokenizer, word_tokenizer

from mendloop.core.errors import Permanent
from mendloop.models.encoding import encode_example, encode_examples, encode_prompts, separator


def test_words_of_prompt_and_completion_are_followed_by_eos() -> None:
    tokenizer = word_tokenizer()
    encoded = encode_example(tokenizer, "IN: w1 OUT:", "w2 w3")
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids) == ["IN:", "w1", "OUT:", "w2", "w3", "<eos>"]
    assert (encoded.prompt_length, encoded.is_cut) == (3, False)
    assert tokenizer.convert_ids_to_tokens(encoded.completion_ids) == ["w2", "w3", "<eos>"]


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [("a", "b", " "), ("a ", "b", ""), ("a\n", "b", ""), ("a", " b", ""), ("a", "\nb", ""), ("", "b", "")],
)
def test_one_space_joins_unless_white_space_is_there(prompt: str, completion: str, expected: str) -> None:
    assert separator(prompt, completion) == expected


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("Question: 1 + 1 =", "2"),
        ("Question: ab\n\nAnswer: ", "ab ab"),
        ("Question: a", "b"),
        ("Question:", "\n\nAnswer: ab"),
    ],
)
def test_byte_pairs_of_an_example_begin_with_those_that_generation_starts_from(
    prompt: str, completion: str, adds_bos: bool
) -> None:
    tokenizer = byte_pair_tokenizer(adds_bos=adds_bos)
    encoded = encode_example(tokenizer, prompt, completion)
    assert encoded.input_ids[: encoded.prompt_length] == encode_prompts(tokenizer, [prompt])[0]
    assert tokenizer.decode(encoded.completion_ids[:-1]) == separator(prompt, completion) + completion
    assert encoded.completion_ids[-1] == tokenizer.eos_token_id
    assert (encoded.input_ids[0] == tokenizer.bos_token_id) == adds_bos


def test_a_token_that_would_reach_over_the_boundary_is_split_there() -> None:
    tokenizer = byte_pair_tokenizer()
    prompt, completion = "Question: 1 + 1 =", " \n\nAnswer:"
    joint = tuple(tokenizer(prompt + completion).input_ids)
    alone = encode_prompts(tokenizer, [prompt])[0]
    assert joint[: len(alone)] != alone, "the tokenizer of this test must merge over the boundary"
    assert encode_example(tokenizer, prompt, completion).input_ids[: len(alone)] == alone


def test_bos_in_the_text_is_not_doubled() -> None:
    tokenizer = byte_pair_tokenizer(adds_bos=True)
    assert encode_prompts(tokenizer, ["<s>ab"]) == encode_prompts(tokenizer, ["ab"])


def test_a_cut_example_says_so_and_teaches_no_eos() -> None:
    encoded = encode_example(word_tokenizer(), "IN: w1 OUT:", "w2 w3", max_tokens=5)
    assert (len(encoded.input_ids), encoded.prompt_length, encoded.is_cut) == (5, 3, True)
    assert encode_example(word_tokenizer(), "IN: w1 OUT:", "w2", max_tokens=2).completion_ids == ()


def test_an_empty_completion_is_just_eos() -> None:
    tokenizer = word_tokenizer()
    assert encode_example(tokenizer, "IN: w1", "").completion_ids == (tokenizer.eos_token_id,)


def test_many_examples_are_encoded_as_each_alone() -> None:
    tokenizer = byte_pair_tokenizer(adds_bos=True)
    prompts, completions = ["Question: a", "1 + 1 =", "<s>ab\n"], ["b", "2", ""]
    each = [encode_example(tokenizer, *pair) for pair in zip(prompts, completions, strict=True)]
    assert encode_examples(tokenizer, prompts, completions) == each


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(Permanent, match="no EOS token"):
        encode_example(word_tokenizer(eos=None), "w1", "w2")


def test_nothing_to_start_from_is_refused() -> None:
    with pytest.raises(Permanent, match="nothing to start from"):
        encode_prompts(word_tokenizer(), [""])
