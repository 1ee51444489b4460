"""What a training learns from: completions, whole texts, preferences; packed or not; with a held-out part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from training import TEMPLATE, job, scan_examples, scan_preferences, tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from mendloop.core.errors import Interrupted, Permanent
from mendloop.core.records import Example, Preference
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.models.encoding import encode_example
from mendloop.trainer.adapters.hf_training import run_job
from mendloop.trainer.adapters.preferences import row_losses, sequence_logps
from mendloop.trainer.domain.labels import IGNORED
from mendloop.trainer.ports import TrainingFailed

CORPUS = scan_examples(24)
PREFERENCES = scan_preferences(8)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("dropout"), dropout=0.1)


def _run(
    work: TrainingJob,
    *,
    start: Path,
    folder: Path,
    batch: Sequence[Example | Preference] = (),
    stop_after: int = 0,
) -> TrainingReport:
    answers = iter([False] * (stop_after - 1) + [True] if stop_after else [False] * 1000)
    return run_job(
        work,
        start_dir=start,
        corpus=CORPUS,
        batch=batch,
        work_dir=folder / "work",
        out_dir=folder / "out",
        is_stopping=lambda: next(answers),
        torch_threads=1,
    )


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / "model.safetensors")


def _nats(model: Any, tokenizer: Any, row: Example, *, completion_alone: bool) -> tuple[float, int]:
    encoded = encode_example(tokenizer, TEMPLATE.format(prompt=row.prompt), row.completion)
    first = encoded.prompt_length if completion_alone else 1
    logits_LV = model(torch.tensor([encoded.input_ids])).logits[0, first - 1 : -1]
    targets_L = torch.tensor(encoded.input_ids[first:])
    return float(cross_entropy(logits_LV, targets_L, reduction="sum").detach()), len(targets_L)


@pytest.mark.parametrize(("objective", "completion_alone"), [("sft", True), ("pretrain", False)])
def test_the_first_loss_is_that_of_the_tokens_that_the_objective_names(
    start: Path, tmp_path: Path, objective: str, completion_alone: bool
) -> None:
    work = job(steps=1, batch_size=24, objective=objective)

    report = _run(work, start=start, folder=tmp_path)

    model, tokenizer = AutoModelForCausalLM.from_pretrained(start), AutoTokenizer.from_pretrained(start)
    nats = [_nats(model, tokenizer, row, completion_alone=completion_alone) for row in CORPUS]
    expected = sum(part for part, _ in nats) / sum(count for _, count in nats)
    assert report.loss_curve[0][1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", ["sft", "pretrain"])
def test_packing_changes_the_rows_and_not_what_is_learnt(start: Path, tmp_path: Path, objective: str) -> None:
    settings = {"objective": objective, "steps": 3, "learning_rate": 1e-2}
    apart = _run(job(**settings), start=start, folder=tmp_path / "apart")
    together = _run(job(**settings, packing=True), start=start, folder=tmp_path / "together")

    assert together.token_count == apart.token_count
    assert [loss for _, loss in together.loss_curve] == pytest.approx([loss for _, loss in apart.loss_curve], rel=1e-5)
    for name, value in _weights(tmp_path / "apart").items():
        torch.testing.assert_close(_weights(tmp_path / "together")[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_a_preference_training_starts_at_ln_2_and_prefers_the_chosen_in_the_end(start: Path, tmp_path: Path) -> None:
    work = job(batch=True, replay_share=0.0, objective="dpo", dpo_beta=0.5, learning_rate=1e-2, steps=20)

    report = _run(work, start=start, folder=tmp_path, batch=PREFERENCES)

    assert report.loss_curve[0][1] == pytest.approx(math.log(2), rel=1e-5)
    assert report.loss_curve[-1][1] < 0.3
    assert [check.name for check in report.health if not check.passed] == []
    assert "distinct_pairs" in {check.name for check in report.health}
    gap = _gap(tmp_path / "out", PREFERENCES[0]) - _gap(start, PREFERENCES[0])
    assert gap > 1


def _gap(directory: Path, row: Preference) -> float:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    examples = [Example(row.prompt, text, row.source) for text in (row.chosen, row.rejected)]
    chosen, rejected = (_nats(model, tokenizer, example, completion_alone=True)[0] for example in examples)
    return rejected - chosen


def test_replayed_examples_beside_preferences_weigh_as_rows(start: Path, tmp_path: Path) -> None:
    work = job(batch=True, replay_share=0.5, objective="dpo", steps=1, batch_size=8)

    report = _run(work, start=start, folder=tmp_path, batch=PREFERENCES)

    assert report.loss_curve[0][1] > math.log(2)  # an untrained model pays more for a token than for a choice
    replayed = 2 * report.loss_curve[0][1] - math.log(2)
    assert replayed == pytest.approx(math.log(load_file(start / "model.safetensors")["lm_head.weight"].shape[0]), 0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "dpo", "held_out_share": 0.25, "held_out_every": 2},
        {"objective": "dpo", "method": "lora"},
        {"objective": "pretrain", "packing": True, "held_out_share": 0.25, "held_out_every": 2},
    ],
    ids=["dpo", "dpo-lora", "pretrain-packed"],
)
def test_an_interrupted_training_goes_on_bit_identically(
    with_dropout: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    is_dpo = settings["objective"] == "dpo"
    work = job(batch=is_dpo, replay_share=0.5, steps=8, **settings)
    batch = PREFERENCES if is_dpo else ()
    whole = _run(work, start=with_dropout, folder=tmp_path / "whole", batch=batch)

    with pytest.raises(Interrupted):
        _run(work, start=with_dropout, folder=tmp_path / "cut", batch=batch, stop_after=5)
    resumed = _run(work, start=with_dropout, folder=tmp_path / "cut", batch=batch)

    cut, undisturbed = ((tmp_path / name / "out" / "model.safetensors").read_bytes() for name in ("cut", "whole"))
    assert cut == undisturbed
    assert (resumed.loss_curve, resumed.held_out_curve) == (whole.loss_curve, whole.held_out_curve)
    assert resumed.gradient_norms == whole.gradient_norms


def test_measuring_the_held_out_part_leaves_the_training_as_it_was(with_dropout: Path, tmp_path: Path) -> None:
    often = job(held_out_share=0.25, held_out_every=1, steps=4)
    never = job(held_out_share=0.25, held_out_every=100, steps=4)

    report = _run(often, start=with_dropout, folder=tmp_path / "often")
    _run(never, start=with_dropout, folder=tmp_path / "never")

    assert [step for step, _ in report.held_out_curve] == [1, 2, 3, 4]
    measured, not_measured = (
        (tmp_path / name / "out" / "model.safetensors").read_bytes() for name in ("often", "never")
    )
    assert measured == not_measured


def test_a_held_out_loss_that_improves_no_more_ends_the_training_early(start: Path, tmp_path: Path) -> None:
    nothing_moves: dict[str, Any] = {"learning_rate": 1e-30, "weight_decay": 0.0}
    work = job(held_out_share=0.25, held_out_every=2, patience=2, **nothing_moves)

    report = _run(work, start=start, folder=tmp_path)

    assert report.step_count == 6  # measured after 2, 4 and 6 steps
    assert "early stop at step 6" in report.stopped_early
    assert "2 measurements without a lower one (patience 2)" in report.stopped_early
    assert "the weights of step 2 are kept" in report.stopped_early
    assert report.kept_step == 2
    full = _run(job(held_out_share=0.25, held_out_every=2, **nothing_moves), start=start, folder=tmp_path / "full")
    assert report.token_count < full.token_count


@pytest.mark.parametrize("settings", [{"method": "lora"}, {"objective": "dpo"}])
def test_unhealthy_data_is_refused_before_any_step_of_any_kind(
    start: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    is_dpo = settings.get("objective") == "dpo"
    work = job(batch=is_dpo, replay_share=0.0, eos_in_loss=False, **settings)

    with pytest.raises(Permanent, match="eos_in_loss: EOS carries loss in 0 of"):
        _run(work, start=start, folder=tmp_path, batch=PREFERENCES if is_dpo else ())

    assert not (tmp_path / "work").exists()


def test_preferences_that_a_cut_made_equal_are_unhealthy(start: Path, tmp_path: Path) -> None:
    long = " ".join(["I_JUMP"] * 40)
    batch = [Preference("jump", f"{long} I_RUN", f"{long} I_WALK", "test")]

    with pytest.raises(Permanent, match="distinct_pairs: 0 of 1 preferences"):
        _run(
            job(batch=True, replay_share=0.0, objective="dpo", max_tokens=20), start=start, folder=tmp_path, batch=batch
        )


def test_divergence_has_its_evidence_with_it(start: Path, tmp_path: Path) -> None:
    work = job(steps=60, learning_rate=1e4, warmup_steps=0)

    with pytest.raises(TrainingFailed) as caught:
        _run(work, start=start, folder=tmp_path)

    failure = caught.value.failure
    assert failure.job == work
    assert failure.cause in ("diverged", "not_finite")
    assert failure.loss_curve[0][0] == 1
    assert failure.gradient_norms
    last = (*failure.last_losses, failure.gradient_norms[-1][1])
    assert not all(map(math.isfinite, last)) or failure.last_losses[-1] > 3 * failure.loss_curve[0][1]
    assert 0 < failure.step <= 60
    assert failure.token_count > 0
    assert failure.flops > 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"patience": 2}, "held_out_share is 0"),
        ({"objective": "dpo", "packing": True}, "DPO compares whole ones"),
        ({"objective": "dpo", "prompt_in_loss": True}, "set prompt_in_loss to false"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        job(**settings)


def test_loss_and_gradient_of_preferences_are_those_of_trl(start: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="compares with TRL: pip install trl")
    datasets = pytest.importorskip("datasets")
    policy, reference = (LlamaForCausalLM.from_pretrained(start) for _ in range(2))
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    ids_BL = torch.randint(5, 20, (4, 9))
    completion_BL = (torch.arange(9) >= 4).long().expand(4, 9)
    labels_BL = ids_BL.masked_fill(completion_BL == 0, IGNORED)
    rows = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path), beta=0.3, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False
    )
    theirs = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=arguments,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(start),
    )
    batch = {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL), "completion_mask": completion_BL}

    expected = theirs.compute_loss(policy, batch)
    expected.backward()
    their_gradient = policy.model.layers[0].mlp.up_proj.weight.grad.clone()
    policy.zero_grad()
    chosen_P, rejected_P = sequence_logps(reference(ids_BL).logits, labels_BL).detach().chunk(2)
    ours = row_losses(policy(ids_BL).logits, labels_BL, chosen_P - rejected_P, beta=0.3).mean()
    ours.backward()

    assert float(ours) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(policy.model.layers[0].mlp.up_proj.weight.grad, their_gradient, rtol=1e-4, atol=1e-7)
