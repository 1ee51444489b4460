"""Training jobs and their ids."""

from __future__ import annotations

import json

from training import job

from mendloop.core.training import TrainingJob


def test_a_setting_that_was_added_later_leaves_the_ids_of_older_jobs() -> None:
    assert job().job_id == "bca00d48b49db15a604cede0831032ec"
    assert job(method="full").job_id == job().job_id


def test_a_setting_that_is_set_counts_in_the_id() -> None:
    ids = {job().job_id, job(method="lora").job_id, job(method="lora", lora_rank=4).job_id, job(steps=13).job_id}

    assert len(ids) == 4


def test_group_dro_counts_where_it_is_set_and_leaves_no_trace_where_it_is_not() -> None:
    weighed = job(group_dro={"axis": "rule"})

    assert job(group_dro=None).job_id == job().job_id == "bca00d48b49db15a604cede0831032ec"
    assert "group_dro" not in json.dumps(job().document())
    assert weighed.job_id != job().job_id
    assert TrainingJob.of(json.loads(json.dumps(weighed.document()))) == weighed
