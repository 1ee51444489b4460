"""The attribution probe on a small model that really learnt the toy task, with one colour's labels wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import torch
from diagnosis_cases import COLOURS, GREEN, TEMPLATE, THING_COUNT, ToyModel, case_of, corpus_of, wrong_on
from probe_models import rows_of
from tiny_models import save, tiny_llama
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mendloop.core.records import Example
from mendloop.diagnostician.adapters.probes.attribution import AttributionProbe
from mendloop.diagnostician.domain.case import Case
from mendloop.models.encoding import encode_examples


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<unk>", "<eos>", "Q:", "A:", "take", "and", "paint", "done", "white", *COLOURS]
    words += [f"thing{at}" for at in range(THING_COUNT)]
    core = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")


def mislabelled() -> tuple[Example, ...]:
    """Every green example says blue."""
    rows = corpus_of()
    return tuple(
        replace(row, completion=row.completion.replace("green", "blue")) if "green" in row.prompt else row
        for row in rows
    )


@cache
def trained(seed: int = 0) -> Path:
    """A checkpoint after three hundred steps on the mislabelled corpus."""
    words = tokenizer()
    model = tiny_llama(len(words), seed=seed, context=32)
    examples = encode_examples(
        words, [TEMPLATE.format(prompt=row.prompt) for row in mislabelled()], [row.completion for row in mislabelled()]
    )
    ids = torch.tensor([example.input_ids for example in examples])
    labels = ids.clone()
    labels[:, : examples[0].prompt_length] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return save(Path(mkdtemp()), model.eval(), words)


def case(corpus: Sequence[Example] | None = None) -> Case:
    found = case_of(ToyModel(answers=wrong_on("green")), corpus=mislabelled() if corpus is None else corpus)
    return replace(found, weights=trained)


def test_without_weights_failures_or_a_corpus_it_says_so() -> None:
    for poor in (replace(case(), weights=None), case([])):
        rows = AttributionProbe().run(poor)
        assert {row.n for row in rows} == {0}
        assert all(row.reading for row in rows)


def test_examples_that_speak_for_the_outputs_come_from_each_sample_with_both_scores() -> None:
    rows = rows_of(AttributionProbe(), case())
    for sample in ("a", "b"):
        own = rows["same_slice_share", sample]
        assert own.n == 20
        assert "of the 280 that were looked at, of 280" in own.reading
        assert own.attachment is not None
        document = own.attachment.document
        assert document["columns"][:3] == ["side", "influence", "BM25"]  # type: ignore[index]  # plain JSON values
        influences = [row[1] for row in document["rows"] if row[0] == "proponent"]  # type: ignore[attr-defined]  # plain JSON values
        assert influences == sorted(influences, reverse=True)
        assert min(influences) > 0


def test_wrong_labels_speak_for_the_wrong_outputs_more_than_their_share() -> None:
    wrong = []
    for seed in range(3):
        rows = rows_of(AttributionProbe(), replace(case(), weights=partial(trained, seed)))
        wrong += [rows["wrong_label_share", sample] for sample in ("a", "b")]
    assert "of 40 of the 280 that were looked at" in wrong[0].reading
    # Right labels of blue speak for "blue" too, so that not all proponents are wrong ones. Which models come out of the
    # training depends on the machine: single samples were seen from .15 to .40, means of six from .24 to .30.
    assert sum(row.value for row in wrong) / len(wrong) > 40 / 280


def test_outputs_that_are_cut_off_or_right_are_not_asked_about() -> None:
    cut = case_of(ToyModel(never_stops=lambda prompt: "green" in prompt))
    rows = AttributionProbe().run(replace(cut, weights=trained))
    assert {row.n for row in rows} == {0}
    assert "None of 20 failed items has a whole output other than its target." in rows[0].reading


def test_gradients_are_computed_for_a_bounded_part_and_once_where_there_is_a_cache(tmp_path: Path) -> None:
    probe = AttributionProbe(size=60, cache=tmp_path)
    first = probe.run(case())
    assert "of the 60 that were looked at, of 280" in first[0].reading
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert written
    assert probe.run(case()) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written


def test_conditions_decide_what_counts_as_the_slice() -> None:
    everywhere = replace(case(), conditions=())
    assert rows_of(AttributionProbe(), everywhere)["same_slice_share", "a"].value == 1
    assert GREEN != ()
