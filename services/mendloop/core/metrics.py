"""The metric table: every metric with type, unit, labels and meaning. docs/metrics.md is generated from it.

Dashboards and alerts may use only what is declared here. Every label has a bound: a closed list of values, or a number
of different values beyond which further ones are written as `other`.
"""

from __future__ import annotations

from mendloop.core.contracts import (
    CONTRACTS,
    CONTROLLER,
    DATA_GENERATOR,
    DIAGNOSTICIAN,
    EVALUATOR,
    GATEWAY,
    TRAINER,
)
from mendloop.core.metric import OTHER, Label, Metric
from mendloop.v1 import diagnosis_pb2, loop_pb2

WORKERS = (EVALUATOR, DIAGNOSTICIAN, DATA_GENERATOR, TRAINER, CONTROLLER)
RESULTS = ("ok", "receipt", "retry", "dead")
CAUSES = tuple(name.removeprefix("CAUSE_") for name in diagnosis_pb2.Cause.DESCRIPTOR.values_by_name)[1:]
OUTCOMES = tuple(name.removeprefix("LOOP_OUTCOME_").lower() for name in loop_pb2.LoopOutcome.DESCRIPTOR.values_by_name)[
    1:
]
RESOURCES = ("new_examples", "train_tokens", "wall_s", "gpu_s", "teacher_tokens", "money")
STEPS = ("training", "evaluation", "diagnosis", "data")
INTERVAL = ("point", "low", "high")
MOST_RUNS = 8
"""Open runs, the newest, of which accuracies are shown one by one; the series of a finished run are removed."""
MOST_ROUNDS = 12
MOST_SLICES = 20
HANDLER_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200)
LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200)
FRESHNESS_BUCKETS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800)
SHARE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

_TYPE = Label("type", (*(contract.event_type for contract in CONTRACTS), "unknown"))
_RESULT = Label("result", RESULTS)
_RESOURCE = Label("resource", RESOURCES)
_INTERVAL = Label("bound", INTERVAL)
_STEP = Label("step", STEPS)
_RUN = Label("run", most=MOST_RUNS)
_STAGE = Label("stage", most=16)

_PROCESS: tuple[Metric, ...] = (
    Metric("mendloop_up", "gauge", "boolean", (), "1 while the consume loop, or the gateway's feed, runs."),
    Metric("mendloop_bus_up", "gauge", "boolean", (), "1 where the last contact with the bus worked."),
    Metric("mendloop_bus_errors", "counter", "errors", (), "Contacts with the bus that failed."),
    Metric(
        "mendloop_events_handled",
        "counter",
        "events",
        (_TYPE, _RESULT),
        "Events by result: ok, receipt (published again, no work), retry, dead (to the dead letters).",
    ),
    Metric(
        "mendloop_handler_seconds",
        "histogram",
        "seconds",
        (_TYPE,),
        "Delivery to completion.",
        buckets=HANDLER_BUCKETS,
    ),
    Metric(
        "mendloop_event_latency_seconds",
        "histogram",
        "seconds",
        (_TYPE,),
        "From when an event was made to its completion, waiting and retries included.",
        buckets=LATENCY_BUCKETS,
    ),
    Metric("mendloop_lease_held", "gauge", "boolean", (), "1 while an event is in work and its lease kept.", WORKERS),
    Metric(
        "mendloop_work_seconds", "gauge", "seconds", (), "How long the event in work is at it; 0 without one.", WORKERS
    ),
    Metric(
        "mendloop_leases_lost",
        "counter",
        "leases",
        (),
        "Completions that failed: the lease went to another member or the bus away. The event comes again.",
        WORKERS,
    ),
    Metric(
        "mendloop_disk_free_bytes",
        "gauge",
        "bytes",
        (Label("place", most=4),),
        "Free bytes on the disk of a local folder.",
    ),
    Metric("mendloop_disk_size_bytes", "gauge", "bytes", (Label("place", most=4),), "Size of the disk that holds it."),
    Metric(
        "mendloop_labels_folded",
        "counter",
        "observations",
        (Label("metric", most=40),),
        "Observations whose label value was written as `other`, because the label's bound was reached.",
    ),
)

_WORK: tuple[Metric, ...] = (
    Metric("mendloop_items_scored", "counter", "items", (), "Evaluation items scored.", (EVALUATOR,)),
    Metric(
        "mendloop_tokens",
        "counter",
        "tokens",
        (Label("use", ("train", "generate", "probe")),),
        "Tokens by use.",
        (EVALUATOR, DIAGNOSTICIAN, TRAINER),
    ),
    Metric("mendloop_training_step", "gauge", "steps", (), "Optimizer steps of the training at work.", (TRAINER,)),
    Metric(
        "mendloop_training_loss",
        "gauge",
        "nats",
        (Label("part", ("train", "held_out")),),
        "Its loss, by part.",
        (TRAINER,),
    ),
    Metric("mendloop_training_gradient_norm", "gauge", "norm", (), "Its largest gradient norm lately.", (TRAINER,)),
    Metric("mendloop_training_tokens_per_second", "gauge", "tokens/s", (), "Its input tokens a second.", (TRAINER,)),
    Metric(
        "mendloop_training_mfu",
        "gauge",
        "share",
        (),
        "Share of the peak FLOPs of the last training; absent where the peak is not known.",
        (TRAINER,),
    ),
    Metric(
        "mendloop_trainings_failed",
        "counter",
        "trainings",
        (Label("cause", most=8),),
        "Diverged trainings, by cause.",
        (TRAINER,),
    ),
    Metric(
        "mendloop_examples_kept",
        "counter",
        "examples",
        (),
        "Training examples that passed the funnel.",
        (DATA_GENERATOR,),
    ),
    Metric(
        "mendloop_examples_dropped",
        "counter",
        "examples",
        (_STAGE,),
        "Examples dropped, by stage of the funnel; the ledger of the batch has the reasons.",
        (DATA_GENERATOR,),
    ),
    Metric(
        "mendloop_teacher_calls",
        "counter",
        "calls",
        (Label("result", ("ok", "unavailable", "refused")),),
        "Questions to a language model that teaches, by result, each try counted.",
        (DATA_GENERATOR,),
    ),
    Metric(
        "mendloop_verdicts", "counter", "verdicts", (Label("cause", CAUSES),), "Diagnoses by cause.", (DIAGNOSTICIAN,)
    ),
    Metric(
        "mendloop_verdict_confidence",
        "histogram",
        "share",
        (),
        "Confidence of verdicts that name a cause.",
        (DIAGNOSTICIAN,),
        SHARE_BUCKETS,
    ),
    Metric(
        "mendloop_gates",
        "counter",
        "gates",
        (Label("gate", most=20), Label("result", ("passed", "failed"))),
        "Gate answers.",
        (CONTROLLER,),
    ),
    Metric(
        "mendloop_runs_finished",
        "counter",
        "runs",
        (Label("outcome", (*OUTCOMES, OTHER)),),
        "Runs by how they ended.",
        (CONTROLLER,),
    ),
)

_LOG: tuple[Metric, ...] = (
    Metric(
        "mendloop_queue_lag",
        "gauge",
        "events",
        (Label("consumer", WORKERS),),
        "Committed events that a service has not completed.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_oldest_event_seconds",
        "gauge",
        "seconds",
        (Label("consumer", WORKERS),),
        "Age of the oldest event that a service has not completed; 0 where there is none.",
        (GATEWAY,),
    ),
    Metric("mendloop_runs_open", "gauge", "runs", (_STAGE,), "Runs that go on, by state.", (GATEWAY,)),
    Metric(
        "mendloop_run_silence_seconds",
        "gauge",
        "seconds",
        (_STAGE,),
        "Longest time since the last event of an open run, by state.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_round_accuracy",
        "gauge",
        "share",
        (_RUN, Label("round", most=MOST_ROUNDS), _INTERVAL),
        f"Accuracy over all items in each round of the {MOST_RUNS} newest open runs, with its 95 % interval.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_slice_accuracy",
        "gauge",
        "share",
        (_RUN, Label("slice", most=MOST_SLICES)),
        f"Accuracy of the {MOST_SLICES} weakest slices in the newest round of these runs.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_budget_limit",
        "gauge",
        "resource",
        (_RESOURCE,),
        "Sum of the budgets of open runs.",
        (GATEWAY,),
    ),
    Metric("mendloop_budget_spent", "gauge", "resource", (_RESOURCE,), "What these runs have spent of it.", (GATEWAY,)),
    Metric(
        "mendloop_budget_left_share",
        "gauge",
        "share",
        (_RESOURCE,),
        "Smallest share of its budget that an open run has left; absent where no open run limits the resource.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_budget_burned",
        "counter",
        "run budgets",
        (_RESOURCE,),
        "Spent shares of run budgets: 1 stands for the whole budget of one run.",
        (GATEWAY,),
    ),
    Metric("mendloop_gpu_seconds", "counter", "seconds", (_STEP,), "GPU-seconds metered, by step.", (GATEWAY,)),
    Metric("mendloop_step_seconds", "counter", "seconds", (_STEP,), "Wall-clock seconds metered, by step.", (GATEWAY,)),
    Metric("mendloop_step_tokens", "counter", "tokens", (_STEP,), "Tokens metered, by step.", (GATEWAY,)),
    Metric(
        "mendloop_decisions",
        "counter",
        "candidates",
        (Label("decision", ("promoted", "rejected", "rolled_back")),),
        "What became of candidates.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_promoted_regressed_slices",
        "gauge",
        "slices",
        (),
        "Slices of promoted checkpoints that a later measurement finds worse: the 95 % intervals do not touch.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_evaluation_freshness_seconds",
        "histogram",
        "seconds",
        (),
        "From a checkpoint that is ready to its complete evaluation.",
        (GATEWAY,),
        FRESHNESS_BUCKETS,
    ),
    Metric(
        "mendloop_calibration_cases",
        "gauge",
        "slices",
        (),
        "Verdicts that name a cause and whose slice a candidate's gate has judged.",
        (GATEWAY,),
    ),
    Metric("mendloop_calibration_confidence", "gauge", "share", (), "Mean confidence of these verdicts.", (GATEWAY,)),
    Metric(
        "mendloop_calibration_improved",
        "gauge",
        "share",
        (_INTERVAL,),
        "Share of these slices that improved significantly under the fix, with its exact 95 % interval.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_webhooks",
        "gauge",
        "webhooks",
        (Label("state", ("delivering", "failing", "disabled")),),
        "Webhooks by state.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_webhook_attempts",
        "counter",
        "attempts",
        (Label("result", ("delivered", "retry", "refused", "gone")),),
        "Tries to deliver by result: delivered, retry, refused (given up), gone.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_webhook_delay_seconds",
        "histogram",
        "seconds",
        (),
        "From an event's time to its receipt by a subscriber.",
        (GATEWAY,),
        LATENCY_BUCKETS,
    ),
    Metric(
        "mendloop_webhooks_disabled",
        "counter",
        "webhooks",
        (Label("reason", most=8),),
        "Webhooks that were disabled, by reason.",
        (GATEWAY,),
    ),
    Metric(
        "mendloop_runs_let_go", "counter", "runs", (), "Finished runs that the gateway keeps no longer.", (GATEWAY,)
    ),
    Metric(
        "mendloop_events_left_out",
        "counter",
        "events",
        (Label("reason", most=10),),
        "Events that the gateway did not keep or, `not counted`, left out of its metrics, by reason.",
        (GATEWAY,),
    ),
)

METRICS: tuple[Metric, ...] = (*_PROCESS, *_WORK, *_LOG)
