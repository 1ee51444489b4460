"""The commands of `mend`: what each takes, what it prints, and how it fails."""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mendloop.cli import dead_letters, lineage
from mendloop.cli.cluster import Release, ask_kubectl, examine_cluster
from mendloop.cli.compare import compare
from mendloop.cli.deployment import DEFAULT_HOME, Deployment, deployment_at
from mendloop.cli.diagnose import diagnose
from mendloop.cli.doctor import examine
from mendloop.cli.eval import evaluate
from mendloop.cli.exchange import export_batch, import_review
from mendloop.cli.faults import faults_app
from mendloop.cli.follow import print_events
from mendloop.cli.import_eval import import_eval
from mendloop.cli.keys import keys_app
from mendloop.cli.live import result_table, run_panel, run_table
from mendloop.cli.screen import output
from mendloop.cli.steering import COMMANDS as STEERING_COMMANDS
from mendloop.cli.tracking import export_run
from mendloop.cli.viewing import view_of
from mendloop.core.contracts import SERVICES
from mendloop.core.errors import MendloopError
from mendloop.core.recipe import Recipe, load_recipe
from mendloop.runs.filters import EventFilter
from mendloop.runs.log import RunLog

app = typer.Typer(
    name="mend",
    help="Measure a checkpoint, diagnose why it fails, fix the data (or not), verify before promoting.",
    epilog="First steps: `mend doctor`, then `mend demo`. A deployment of your own: `mend up` in one terminal, "
    "`mend run RECIPE --wait` in another.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
recipe_app = typer.Typer(help="Check a recipe, or print the schema of one.", no_args_is_help=True)
dlq_app = typer.Typer(help="Dead letters: events that a service refused for good.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
app.add_typer(dlq_app, name="dlq")
app.add_typer(faults_app, name="faults")
app.add_typer(keys_app, name="keys")
app.command("import-eval")(import_eval)
app.command("compare")(compare)
app.command("diagnose")(diagnose)
app.command("eval")(evaluate)
for _command in STEERING_COMMANDS:
    app.command()(_command)
app.command("export")(export_batch)
app.command("import")(import_review)
app.command("export-run")(export_run)
console = output()

RunId = Annotated[str, typer.Argument(help="Id of the run, as `mend status` shows it.")]
READY_TIMEOUT_S = 180.0


@app.callback()
def deployment(
    context: typer.Context,
    home: Annotated[
        Path, typer.Option(help="Directory of the deployment: bus, artifacts, database, logs.")
    ] = DEFAULT_HOME,
    bus: Annotated[str, typer.Option(help="local, local:PATH or kafka:HOST:PORT; default from MENDLOOP_BUS.")] = "",
) -> None:
    """Options that every command shares."""
    context.obj = deployment_at(home, bus_url=bus)


@app.command()
def demo(
    bus: Annotated[
        str, typer.Option(help="local (nothing to install) or kafka (a real broker, started for you).")
    ] = "local",
    out: Annotated[Path, typer.Option(help="Folder for report.html, demo.json and the services' logs.")] = Path(
        "demo-report"
    ),
    fresh: Annotated[bool, typer.Option(help="Start anew even where an interrupted demo could go on.")] = False,
) -> None:
    """Run two failures of a small model through the loop: one is the data, one is not."""
    from mendloop.cli.demo import run_demo

    with _interruptible("services stopped; nothing is lost, the same command goes on"):
        faults = run_demo(out, bus=bus, fresh=fresh, console=console)
    for fault in faults:
        console.print(f"[red]not as promised[/red]: {fault}")
    if faults:
        raise typer.Exit(1)


@app.command()
def up(
    context: typer.Context,
    replicas: Annotated[list[str] | None, typer.Option(help="SERVICE=COUNT, may be repeated.")] = None,
    port: Annotated[int, typer.Option(help="Port of the gateway on 127.0.0.1; 0 takes a free one.")] = 8080,
    grpc_port: Annotated[int, typer.Option(help="Port of its gRPC there; 0 takes a free one.")] = 8081,
) -> None:
    """Run all services on this machine until Ctrl-C; what dies is started again."""
    from mendloop.cli.supervisor import Supervisor

    target = replace(context.obj, gateway_port=port, grpc_port=grpc_port)
    supervisor = Supervisor(target, replicas=_counts(replicas or []))
    with _interruptible("services stopped; unfinished work goes on when they start again"), supervisor:
        with console.status("starting") as status:
            for pending in supervisor.wait_ready(timeout_s=READY_TIMEOUT_S):
                status.update(f"waiting for {', '.join(pending)}")
        console.print(
            f"{len(supervisor.pids())} services are up; logs in {context.obj.home / 'logs'}; Ctrl-C stops them"
        )
        console.print(f"{target.gateway_url()}/#token={target.gateway_token()}", highlight=False, soft_wrap=True)
        console.print(f"gRPC (mendloop.v1.LoopService) on {target.grpc_address()}", highlight=False)
        while True:
            supervisor.tend()
            time.sleep(0.5)


@app.command()
def serve(service: Annotated[str, typer.Argument(help=", ".join(SERVICES))]) -> None:
    """Run one service in the foreground; its settings come from MENDLOOP_ variables."""
    if service not in SERVICES:
        raise typer.BadParameter(f"{service!r} is no service; choose one of {', '.join(SERVICES)}")
    sys.argv = [f"mend serve {service}"]  # a service reads its own arguments there; these were ours
    runpy.run_module(f"mendloop.{service.replace('-', '_')}", run_name="__main__")


@app.command()
def run(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML); `mend recipe schema` describes it.")],
    run_id: Annotated[str, typer.Option(help="Id of the run; the same id asked for twice is one run.")] = "",
    wait: Annotated[bool, typer.Option(help="Draw the run until it is finished.")] = False,
) -> None:
    """Check a recipe and everything that it names, and ask for a run."""
    from mendloop.submission.submit import submit

    target: Deployment = context.obj
    made = submit(
        load_recipe(recipe),
        bus=target.bus(),
        store=target.store(),
        sealed_store=target.sealed_store(),
        base_dir=recipe.resolve().parent,
        run_id=run_id or None,
    )
    console.print(f"run [bold]{made}[/bold] is asked for on {target.bus_url}")
    if wait:
        _follow(target, made)


@app.command()
def status(context: typer.Context) -> None:
    """List the runs of the deployment: state, accuracy, verdicts, outcome."""
    log = RunLog(context.obj.bus(), store=context.obj.store())
    log.refresh()
    views = log.views()
    console.print(run_table(views) if views else f"no runs on {context.obj.bus_url}; `mend run RECIPE` asks for one")


@app.command()
def watch(context: typer.Context, run_id: RunId) -> None:
    """Draw a run live until it is finished."""
    _follow(context.obj, run_id)


@app.command()
def report(
    context: typer.Context,
    run_id: RunId,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """What a run found, did and decided, with the evidence."""
    from mendloop.report.page import render
    from mendloop.report.summary import summarize

    view = view_of(context.obj, run_id)
    summary = summarize(view, store=context.obj.store())
    if html is not None:
        html.write_text(render([summary], title=f"Run {run_id}", subtitle=view.summary), encoding="utf-8")
        console.print(f"wrote {html}")
    elif as_json:
        typer.echo(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        console.print(run_panel(view))
        console.print(result_table([summary]))


@app.command("lineage")
def show_lineage(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Hash of the checkpoint, or its beginning.")],
) -> None:
    """Walk from a checkpoint to its gate, batch, plan, diagnosis, failure and slice."""
    store = context.obj.store()
    console.print(lineage.tree(store, lineage.checkpoint_named(store, checkpoint)))


@app.command()
def subscribe(
    context: typer.Context,
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Event type, e.g. EvalFailed; may be repeated.")
    ] = None,
    run_id: Annotated[str, typer.Option("--run", help="Only this run.")] = "",
    cause: Annotated[list[str] | None, typer.Option(help="Only verdicts with this cause; may be repeated.")] = None,
    weak_slice: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Only this slice (id, or verb=jump,output=long); may be repeated."),
    ] = None,
    from_start: Annotated[bool, typer.Option(help="Begin with the oldest event.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="File that keeps the place; begun again, it goes on there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print failure events as they happen (default: EvalFailed); Ctrl-C ends it."""
    try:
        wanted = EventFilter.of(
            types=event_type or ["EvalFailed"],
            runs=[run_id] if run_id else [],
            causes=cause or [],
            slices=weak_slice or [],
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with _interruptible(""):
        print_events(context.obj.bus(), wanted=wanted, from_start=from_start, as_json=as_json, resume=resume)


@app.command()
def doctor(
    context: typer.Context,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Check the Kubernetes cluster of kubectl instead.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="With --cluster: the release's namespace.")] = "default",
    release: Annotated[str, typer.Option(help="With --cluster: the release's name.")] = "mendloop",
) -> None:
    """Check this machine and the deployment, or a cluster; say what is missing and what to do."""
    findings = examine_cluster(Release(release, namespace), ask=ask_kubectl) if cluster else examine(context.obj)
    table = Table("", "what", "found", "what to do", box=None)
    for finding in findings:
        mark = (
            "[green]ok[/green]"
            if finding.is_ok
            else ("[red]missing[/red]" if finding.is_needed else "[yellow]optional[/yellow]")
        )
        table.add_row(mark, finding.what, finding.detail, "" if finding.is_ok else finding.advice)
    console.print(table)
    if any(not finding.is_ok and finding.is_needed for finding in findings):
        raise typer.Exit(1)


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON Schema of a recipe."""
    typer.echo(json.dumps(Recipe.model_json_schema(), indent=1))


@recipe_app.command("check")
def recipe_check(recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")]) -> None:
    """Read a recipe and report every fault with its line."""
    console.print(f"{recipe}: [green]ok[/green], recipe {load_recipe(recipe).name}")


@dlq_app.command("list")
def dlq_list(context: typer.Context) -> None:
    """List the dead letters, oldest first."""
    table = Table("id", "time", "run", "handler", "event", "tries", "reason", box=None)
    for letter in dead_letters.letters(context.obj.bus()):
        message = letter.message
        table.add_row(
            letter.letter_id[:12],
            letter.time[:19],
            letter.run_id,
            message.handler,
            letter.event_type,
            str(message.attempt_count),
            message.reason,
        )
    console.print(table if table.row_count else "no dead letters")


@dlq_app.command("show")
def dlq_show(context: typer.Context, letter_id: Annotated[str, typer.Argument(help="Id, or its beginning.")]) -> None:
    """Show one dead letter whole: reason, headers and the original event."""
    typer.echo(dead_letters.as_json(dead_letters.find_letter(context.obj.bus(), letter_id)))


@dlq_app.command("replay")
def dlq_replay(context: typer.Context, letter_id: Annotated[str, typer.Argument(help="Id, or its beginning.")]) -> None:
    """Give the original event to the service that refused it, once more."""
    bus = context.obj.bus()
    letter = dead_letters.find_letter(bus, letter_id)
    dead_letters.replay(bus, letter)
    console.print(f"{letter.event_type or 'event'} goes to {letter.message.handler} again")


def main() -> None:
    """Entry point: an error that we raise on purpose is one line, not a trace."""
    # SIGTERM ends a supervisor as Ctrl-C does; a shell's background job begins with SIGINT ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _errors_in_words():
        app()


@contextmanager
def _errors_in_words() -> Iterator[None]:
    try:
        yield
    except MendloopError as error:
        Console(stderr=True).print(f"[red]mend:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


@contextmanager
def _interruptible(farewell: str) -> Iterator[None]:
    """Ctrl-C is no accident: what runs ends in order, and the exit status says so."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(farewell)
        raise typer.Exit(130) from None


def _follow(target: Deployment, run_id: str) -> None:
    log = RunLog(target.bus(), store=target.store())
    with _interruptible("the run goes on"), Live(console=console, refresh_per_second=4) as screen:
        while True:
            log.refresh()
            view = log.view(run_id)
            screen.update(run_panel(view) if view else f"waiting for run {run_id}")
            if view is not None and view.is_finished:
                return
            time.sleep(0.25)


def _counts(options: list[str]) -> dict[str, int]:
    counts = {}
    for option in options:
        service, _, count = option.partition("=")
        if service not in SERVICES or not count.isdigit() or int(count) < 1:
            raise typer.BadParameter(f"{option!r} is not SERVICE=COUNT with one of {', '.join(SERVICES)}")
        counts[service] = int(count)
    return counts
