"""What the dashboards show: title, question, PromQL and unit of each panel. generate.py makes Grafana's JSON of it.

only_after names what must have happened before a panel has data where an ordinary run never does it; a test runs every
other query against a Prometheus that scraped a demo.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "[$__rate_interval]"
HOOK = "a webhook that somebody registered"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL and the legend of its series."""

    expr: str
    legend: str
    only_after: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: the question that it answers, its queries and the unit of Grafana."""

    title: str
    question: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: for whom, with its rows of panels."""

    uid: str
    title: str
    reader: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def one(expr: str, legend: str, *, only_after: str = "") -> tuple[Query, ...]:
    """A single query."""
    return (Query(expr, legend, only_after),)


LOOP = Board(
    "mendloop-loop",
    "Mendloop: the loop",
    "Leads: what runs do, whether models get better, what it costs.",
    (
        (
            "Runs",
            (
                Panel("Open runs", "Where do runs stand?", one("max by (stage) (mendloop_runs_open) > 0", "{{stage}}")),
                Panel(
                    "Finished runs",
                    "How did they end?",
                    one("sum by (outcome) (increase(mendloop_runs_finished_total[24h])) > 0", "{{outcome}}"),
                ),
                Panel(
                    "Silence",
                    "How long has the quietest run of each state had no event?",
                    one("max by (stage) (mendloop_run_silence_seconds) > 0", "{{stage}}"),
                    "s",
                ),
                Panel(
                    "Decisions",
                    "What became of candidates?",
                    one("max by (decision) (increase(mendloop_decisions_total[24h]))", "{{decision}}"),
                ),
            ),
        ),
        (
            "Quality",
            (
                Panel(
                    "Accuracy by round",
                    "Do open runs get better? The interval is the exact 95 % one.",
                    (
                        Query(
                            'max by (run, round) (mendloop_round_accuracy{bound="point"})', "{{run}} round {{round}}"
                        ),
                        Query('max by (run, round) (mendloop_round_accuracy{bound="low"})', "{{run}} {{round}} low"),
                        Query('max by (run, round) (mendloop_round_accuracy{bound="high"})', "{{run}} {{round}} high"),
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Weakest slices",
                    "Where are open runs weak now?",
                    one("max by (run, slice) (mendloop_slice_accuracy)", "{{run}} {{slice}}"),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Gates that said no",
                    "Why are candidates rejected?",
                    one(
                        'sum by (gate) (increase(mendloop_gates_total{result="failed"}[24h]))',
                        "{{gate}}",
                        only_after="a candidate that a gate rejected; the demo promotes both",
                    ),
                ),
                Panel(
                    "Promoted and worse since",
                    "Did a promoted checkpoint regress?",
                    one("max(mendloop_promoted_regressed_slices)", "slices"),
                ),
            ),
        ),
        (
            "Budget",
            (
                Panel(
                    "Budget left",
                    "How much does the poorest open run have left?",
                    one("min by (resource) (mendloop_budget_left_share)", "{{resource}}"),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Training loss",
                    "Does the training at work learn?",
                    one("max by (part) (mendloop_training_loss)", "{{part}}"),
                ),
            ),
        ),
    ),
)

HEALTH = Board(
    "mendloop-health",
    "Mendloop: services",
    "Operators: what is down, what waits, what fails.",
    (
        (
            "Alive",
            (
                Panel(
                    "Processes", "How many of each service work?", one("sum by (service) (mendloop_up)", "{{service}}")
                ),
                Panel(
                    "Bus",
                    "Can services reach it? 1 is yes.",
                    one("min by (service) (mendloop_bus_up)", "{{service}}"),
                    highest=1,
                ),
                Panel(
                    "Bus errors",
                    "Do contacts with it fail?",
                    one(f"sum by (service) (rate(mendloop_bus_errors_total{RATE}))", "{{service}}"),
                    "ops",
                ),
                Panel(
                    "Disk free",
                    "Which disk fills?",
                    one(
                        "min by (service, place) (mendloop_disk_free_bytes / mendloop_disk_size_bytes)",
                        "{{service}} {{place}}",
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "At work",
                    "How long has the event in work been at it?",
                    one("max by (service) (mendloop_work_seconds)", "{{service}}"),
                    "s",
                ),
                Panel(
                    "Leases",
                    "Who holds an event, and was one lost?",
                    (
                        Query("sum by (service) (mendloop_lease_held)", "{{service}} holds"),
                        Query(f"sum by (service) (increase(mendloop_leases_lost_total{RATE}))", "{{service}} lost"),
                    ),
                ),
            ),
        ),
        (
            "Work",
            (
                Panel(
                    "Events",
                    "How much is handled, and how does it end?",
                    one(
                        f"sum by (service, result) (rate(mendloop_events_handled_total{RATE})) > 0",
                        "{{service}} {{result}}",
                    ),
                    "eps",
                ),
                Panel(
                    "Retries and dead letters",
                    "What fails?",
                    one(
                        'sum by (service, result) (increase(mendloop_events_handled_total{result=~"retry|dead"}[15m]))',
                        "{{service}} {{result}}",
                    ),
                ),
                Panel(
                    "Handler time, 95th percentile",
                    "Which handler is slow?",
                    one(
                        f"histogram_quantile(0.95, sum by (le, service) (rate(mendloop_handler_seconds_bucket{RATE})))",
                        "{{service}}",
                    ),
                    "s",
                ),
                Panel(
                    "Event latency of the controller",
                    "Is the objective kept (99 % within 5 s)?",
                    one(
                        "histogram_quantile(0.99, sum by (le) "
                        f'(rate(mendloop_event_latency_seconds_bucket{{service="controller"}}{RATE})))',
                        "99th percentile",
                    ),
                    "s",
                ),
                Panel(
                    "Late events of the controller",
                    "Which share took more than 5 s (objective: 1 %)?",
                    one(
                        "1 - sum(rate(mendloop_event_latency_seconds_bucket"
                        f'{{service="controller",le="5.0"}}{RATE})) / sum(rate('
                        f'mendloop_event_latency_seconds_count{{service="controller"}}{RATE}))',
                        "share above 5 s",
                    ),
                    "percentunit",
                    highest=1,
                ),
            ),
        ),
        (
            "Waiting",
            (
                Panel(
                    "Lag",
                    "How many events wait for whom?",
                    one("max by (consumer) (mendloop_queue_lag)", "{{consumer}}"),
                ),
                Panel(
                    "Oldest event",
                    "How long has the oldest one waited?",
                    one("max by (consumer) (mendloop_oldest_event_seconds)", "{{consumer}}"),
                    "s",
                ),
                Panel(
                    "Evaluation freshness",
                    "How long from a checkpoint to its evaluation (objective: 95 % within an hour)?",
                    one(
                        "histogram_quantile(0.95,"
                        " max by (le) (increase(mendloop_evaluation_freshness_seconds_bucket[1h])))",
                        "95th percentile",
                    ),
                    "s",
                ),
                Panel(
                    "Webhooks",
                    "Which subscribers get nothing?",
                    (
                        Query("max by (state) (mendloop_webhooks)", "{{state}}", only_after=HOOK),
                        Query(
                            "sum by (reason) (increase(mendloop_webhooks_disabled_total[24h]))",
                            "disabled: {{reason}}",
                            only_after=HOOK,
                        ),
                    ),
                ),
                Panel(
                    "Deliveries of webhooks",
                    "How do they end?",
                    one(
                        f"sum by (result) (rate(mendloop_webhook_attempts_total{RATE}))", "{{result}}", only_after=HOOK
                    ),
                    "ops",
                ),
                Panel(
                    "Delay of webhooks",
                    "How long until a subscriber has an event?",
                    one(
                        f"histogram_quantile(0.95, sum by (le) (rate(mendloop_webhook_delay_seconds_bucket{RATE})))",
                        "95th percentile",
                        only_after=HOOK,
                    ),
                    "s",
                ),
                Panel(
                    "Left out",
                    "What do these metrics themselves not see?",
                    (
                        Query(
                            "max by (reason) (increase(mendloop_log_left_out_total[1h]))",
                            "{{reason}}",
                            only_after="an event that cannot be read or comes twice",
                        ),
                        Query("max(increase(mendloop_runs_let_go_total[24h]))", "runs let go"),
                        Query(
                            "max by (reason) (increase(mendloop_events_left_out_total[1h]))",
                            "not kept: {{reason}}",
                            only_after="an event that the gateway does not keep",
                        ),
                        Query(
                            "sum by (metric) (increase(mendloop_labels_folded_total[1h]))",
                            "folded: {{metric}}",
                            only_after="a label beyond its bound",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

DIAGNOSIS = Board(
    "mendloop-diagnosis",
    "Mendloop: diagnosis",
    "Whoever answers for verdicts: what they say, how sure, and what became of their fixes.",
    (
        (
            "Verdicts",
            (
                Panel(
                    "Verdicts by cause",
                    "What is wrong with the models?",
                    one("sum by (cause) (increase(mendloop_verdicts_total[24h])) > 0", "{{cause}}"),
                ),
                Panel(
                    "Abstained",
                    "Which share of verdicts names no cause?",
                    one(
                        'sum(increase(mendloop_verdicts_total{cause="UNKNOWN"}[24h]))'
                        " / (sum(increase(mendloop_verdicts_total[24h])) > 0)",
                        "share",
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Confidence",
                    "How sure are verdicts?",
                    (
                        Query(
                            "histogram_quantile(0.5, sum by (le) (increase(mendloop_verdict_confidence_bucket[24h])))",
                            "median",
                        ),
                        Query(
                            "histogram_quantile(0.1, sum by (le) (increase(mendloop_verdict_confidence_bucket[24h])))",
                            "10th percentile",
                        ),
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Calibration",
                    "Do fixes work as often as verdicts are sure? Only its drift says something.",
                    (
                        Query("max(mendloop_calibration_confidence)", "mean confidence"),
                        Query("max by (bound) (mendloop_calibration_improved)", "improved, {{bound}}"),
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Cases of the calibration",
                    "Over how many verdicts is that? The alert waits for 20.",
                    one("max(mendloop_calibration_cases)", "cases"),
                ),
            ),
        ),
        (
            "Fixes",
            (
                Panel(
                    "Gates",
                    "Which gates pass?",
                    one(
                        "sum by (gate, result) (increase(mendloop_gates_total[24h]))",
                        "{{gate}} {{result}}",
                        only_after="two decisions of one controller process: a label that appears with its first count",
                    ),
                ),
                Panel(
                    "Gates, since the process started",
                    "How often was each asked?",
                    one("sum by (gate, result) (mendloop_gates_total)", "{{gate}} {{result}}"),
                ),
                Panel(
                    "Examples, since the process started",
                    "What does the funnel keep?",
                    (
                        Query("sum(mendloop_examples_kept_total)", "kept"),
                        Query("sum by (stage) (mendloop_examples_dropped_total)", "dropped: {{stage}}"),
                    ),
                ),
                Panel(
                    "Failed trainings, since the process started",
                    "Which trainings diverge?",
                    one(
                        "sum by (cause) (mendloop_trainings_failed_total)",
                        "{{cause}}",
                        only_after="a training that diverged",
                    ),
                ),
            ),
        ),
    ),
)

COST = Board(
    "mendloop-cost",
    "Mendloop: cost",
    "Whoever pays: seconds, tokens and budgets.",
    (
        (
            "Work",
            (
                Panel(
                    "GPU seconds",
                    "Which step uses GPUs? All 0 on a CPU.",
                    one("max by (step) (increase(mendloop_gpu_seconds_total[1h]))", "{{step}}"),
                    "s",
                ),
                Panel(
                    "Seconds at work",
                    "Which step takes time?",
                    one("max by (step) (increase(mendloop_step_seconds_total[1h]))", "{{step}}"),
                    "s",
                ),
                Panel(
                    "Tokens",
                    "Which step reads or writes tokens?",
                    one("max by (step) (increase(mendloop_step_tokens_total[1h]))", "{{step}}"),
                ),
                Panel(
                    "Tokens a second",
                    "How fast are they read and written?",
                    one(f"sum by (use) (rate(mendloop_tokens_total{RATE}))", "{{use}}"),
                ),
                Panel(
                    "Speed of training",
                    "How many tokens a second does it take in?",
                    one("max(mendloop_training_tokens_per_second)", "tokens/s"),
                ),
                Panel(
                    "Model FLOPs utilization",
                    "How much of the accelerators' peak does training use?",
                    one(
                        "max(mendloop_training_mfu)",
                        "MFU",
                        only_after="a training whose peak FLOPs are known (MENDLOOP_TRAINER_PEAK_FLOPS)",
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel("Training step", "Does it move?", one("max(mendloop_training_step)", "step")),
                Panel("Gradient norm", "Is it calm?", one("max(mendloop_training_gradient_norm)", "largest lately")),
                Panel(
                    "Items scored",
                    "How fast is measured?",
                    one(f"sum(rate(mendloop_items_scored_total{RATE}))", "items/s"),
                ),
                Panel(
                    "Teacher",
                    "What is asked of the language model that teaches?",
                    one("sum by (result) (increase(mendloop_teacher_calls_total[1h]))", "{{result}}"),
                ),
            ),
        ),
        (
            "Budgets",
            (
                Panel(
                    "Spent of the limit",
                    "How much of the open runs' budgets is spent?",
                    one(
                        "max by (resource) (mendloop_budget_spent) / max by (resource) (mendloop_budget_limit)",
                        "{{resource}}",
                    ),
                    "percentunit",
                    highest=1,
                ),
                Panel(
                    "Burn rate",
                    "How many whole run budgets are spent an hour?",
                    one("max by (resource) (increase(mendloop_budget_burned_total[1h]))", "{{resource}}"),
                ),
            ),
        ),
    ),
)

BOARDS = (LOOP, HEALTH, DIAGNOSIS, COST)
