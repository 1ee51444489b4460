"""Training jobs and their ids."""

from __future__ import annotations

from training import job


def test_a_setting_that_was_added_later_leaves_the_ids_of_older_jobs() -> None:
    assert job().job_id == "bca00d48b49db15a604cede0831032ec"
    assert job(method="full").job_id == job().job_id


def test_a_setting_that_is_set_counts_in_the_id() -> None:
    ids = {job().job_id, job(method="lora").job_id, job(method="lora", lora_rank=4).job_id, job(steps=13).job_id}

    assert len(ids) == 4
