"""docs/operate.md and the runbooks, followed as they stand: with a running `mend up`, real Prometheus and Alertmanager.

Everything runs in a network namespace of its own, so that the guide's ports are free.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from monitoring import require_monitoring
from postgres import postgres_url
from run_events import position, ref
from runbook import DOCS, blocks, command, environment, run
from typer.main import get_command
from waiting import wait_until

from mendloop.bus.local import LocalBus
from mendloop.cli.app import app
from mendloop.core.contracts import SERVICES
from mendloop.core.events import Envelope, envelope_for
from mendloop.v1 import loop_pb2

pytestmark = [pytest.mark.deploy, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = DOCS.parent
__all__ = ["postgres_url"]
GUIDE = "operate.md"
DEADLINE_S = 600.0
RUNBOOKS = sorted(f"runbooks/{path.name}" for path in (DOCS / "runbooks").glob("*.md"))
RUN = "strange"


@dataclass(slots=True)
class Terminals:
    """Shells in one folder and one network namespace."""

    folder: Path
    namespace: int
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, line: str) -> Path:
        """Type a line that goes on, in a terminal of its own; where its output is."""
        output = self.folder / f"{len(self.started)}.out"
        with output.open("wb") as out:
            self.started[line] = subprocess.Popen(
                [*self._enter(), "bash", "-c", f"exec {line}"],
                cwd=self.folder,
                env=environment({"PYTHONUNBUFFERED": "1", "COLUMNS": "300"}),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return output

    def interrupt(self, line: str) -> None:
        """Ctrl-C."""
        process = self.started.pop(line)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=120)

    def type(self, line: str) -> str:
        """What a line prints; it must succeed."""
        words = " ".join(self._enter())
        return run(f"export COLUMNS=300; {words} bash -c {quoted(line)}", folder=self.folder)

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.namespace), "--net"]


def quoted(text: str) -> str:
    """For a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminals]:
    """A stranger's machine: the files that the guide names, nothing that runs."""
    require_monitoring()
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        pytest.skip("needs root, unshare, nsenter and ip for a network of its own, in which the guide's ports are free")
    folder = tmp_path_factory.mktemp("stranger")
    for part in ("deploy/prometheus", "charts/mendloop/files"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("targets.json", "__pycache__"))
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
    try:
        here = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != here, deadline_s=30)
        run(f"nsenter --target {holder.pid} --net ip link set lo up", folder=folder)
        made = Terminals(folder, holder.pid)
        try:
            yield made
        finally:
            for line in [*made.started]:
                made.interrupt(line)
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture(scope="module")
def seen(terminals: Terminals) -> Terminals:
    """The section "See it" followed: everything is up, and a dead letter has paged."""
    up, *others = blocks(GUIDE, heading="See it")[0].splitlines()
    output = terminals.start(up)
    wait_until(lambda: "6 services are up" in output.read_text(), deadline_s=DEADLINE_S, every_s=0.5)
    for line in others:
        terminals.start(line)

    def names_up() -> set[str]:
        with suppress(AssertionError):  # it does not listen yet
            shown = terminals.type(paged()[2])
            return set(re.findall(r'service="([a-z-]+)"\} => 1 ', shown))
        return set()

    wait_until(lambda: names_up() == set(SERVICES), deadline_s=DEADLINE_S, every_s=1)
    LocalBus(terminals.folder / ".mendloop" / "bus.db").publish([unanswerable()])
    wait_until(lambda: "MendloopDeadLetters" in terminals.type(paged()[0]), deadline_s=DEADLINE_S, every_s=1)
    return terminals


def unanswerable() -> Envelope:
    """A request whose run specification is nowhere."""
    message = loop_pb2.LoopRequested(position=position(RUN), run_spec=ref("5"), requested_by="a stranger")
    return envelope_for(message, event_id=f"requested-{RUN}", source="submission", key=RUN, subject=RUN)


def paged() -> list[str]:
    """The commands of "When you are paged"."""
    (block,) = blocks(GUIDE, heading="When you are paged")
    return block.splitlines()


def test_every_target_is_up(seen: Terminals) -> None:
    shown = seen.type("promtool query instant http://127.0.0.1:9090 up")
    assert shown.count("=> 1 ") == len(SERVICES), shown
    assert "=> 0 " not in shown


def test_a_copy_of_the_rules_has_links_to_the_runbooks(seen: Terminals) -> None:
    _, link = blocks(GUIDE, heading="See it")
    seen.type(link)
    text = (seen.folder / "linked.yaml").read_text()
    assert "runbook_url: https://HOST/OWNER/mendloop/blob/main/docs/runbooks/run-stuck.md" in text
    seen.type("promtool check rules linked.yaml")


def test_the_first_look_shows_the_alert_its_letter_and_its_run(seen: Terminals) -> None:
    alerts, bus, up, oldest, letters, runs, doctor = [seen.type(line) for line in paged()]
    assert "MendloopDeadLetters" in alerts
    assert bus.count("=> 1 ") == up.count("=> 1 ") == len(SERVICES)
    assert "=> 0 " not in oldest
    assert RUN in letters
    assert RUN in runs
    assert "event bus" in doctor


def test_a_dead_letter_is_shown_and_replayed_by_the_runbooks_commands(seen: Terminals) -> None:
    page = "runbooks/dead-letters.md"
    letter = re.findall(r"\b[0-9a-f]{8,}\b", seen.type(command(page, "mend dlq list")))[0]
    assert "LoopRequested" in seen.type(command(page, "mend dlq show ID", ID=letter))
    seen.type(command(page, "mend dlq replay ID", ID=letter))


@pytest.mark.parametrize("page", RUNBOOKS)
def test_every_query_of_a_runbook_is_one_for_prometheus(seen: Terminals, page: str) -> None:
    found = [span for span in spans(page) if re.search(r"^[a-z_]+\(|^[a-z]+ by \(|^mendloop_\w+(\{.*\})?$", span)]
    assert found, f"{page} asks nothing"
    for query in found:
        seen.type(f"promtool query instant http://127.0.0.1:9090 {quoted(query)}")


def spans(page: str) -> list[str]:
    """Code spans of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", (DOCS / page).read_text(), flags=re.M | re.S))


@pytest.mark.parametrize("page", [GUIDE, *RUNBOOKS])
def test_every_mend_command_of_a_page_exists_with_its_options(page: str) -> None:
    lines = [line for block in blocks(page) for line in block.splitlines()]
    for text in (*spans(page), *lines):
        if text.startswith("mend "):
            assert_is_command(text.split("#")[0].split()[1:])


def assert_is_command(words: list[str]) -> None:
    """Walk the command line's own tree."""
    found = get_command(app)
    while words and hasattr(found, "commands") and words[0] in found.commands:
        found, words = found.commands[words[0]], words[1:]
    assert not hasattr(found, "commands"), f"mend has no command {words}"
    options = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, words


def test_keys_are_made_rotated_and_ended_as_the_guide_says(seen: Terminals) -> None:
    seen.type("mend keys create ci --scope run")
    key = re.findall(r"\b[0-9a-f]{12}\b", seen.type("mend keys list"))[0]
    rotated = seen.type(command(GUIDE, "mend keys rotate ID --overlap-h 24", ID=key))
    assert f"mend_{key}_" in rotated
    seen.type(command(GUIDE, "mend keys revoke ID --reason WHY", ID=key, WHY="lost"))
    assert "revoked" in seen.type("mend keys list")


def test_a_backup_is_restored_at_its_place_and_goes_on(seen: Terminals) -> None:
    (up, *_) = blocks(GUIDE, heading="See it")[0].splitlines()
    save, restore, _ = blocks(GUIDE, heading="Keep and restore")
    before = [seen.type(line) for line in ("mend status", "mend dlq list", "mend keys list")]
    seen.interrupt(up)
    seen.type(save)
    shutil.rmtree(seen.folder / ".mendloop")
    seen.type(restore)
    assert [seen.type(line) for line in ("mend status", "mend dlq list", "mend keys list")] == before
    output = seen.start(up)
    wait_until(lambda: "6 services are up" in output.read_text(), deadline_s=DEADLINE_S, every_s=0.5)
    ask = 'curl --fail -sS -H "Authorization: Bearer $(cat .mendloop/gateway-token)" http://127.0.0.1:8080/v1/runs'
    assert RUN in seen.type(ask)


def test_databases_are_dumped_and_restored_by_the_guides_commands(postgres_url: str, tmp_path: Path) -> None:
    *_, block = blocks(GUIDE, heading="Keep and restore")
    dump, restore = block.splitlines()
    plain = postgres_url.replace("+psycopg", "")
    other = plain.replace("/postgres?", "/restored?")
    settings = {"MENDLOOP_DATABASE_URL": postgres_url, "COLUMNS": "300"}
    run("mend keys create ci --scope run", folder=tmp_path, settings=settings)
    before = run("mend keys list", folder=tmp_path, settings=settings)
    run(dump.replace("DATABASE_URL", quoted(plain)), folder=tmp_path)
    run(f"psql --quiet --command 'create database restored' {quoted(plain)}", folder=tmp_path)
    run(restore.replace("NEW_DATABASE_URL", quoted(other)), folder=tmp_path)
    settings["MENDLOOP_DATABASE_URL"] = postgres_url.replace("/postgres?", "/restored?")
    assert run("mend keys list", folder=tmp_path, settings=settings) == before
    assert "ci" in before
