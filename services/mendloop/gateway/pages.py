"""What people browse of a run: slices, diagnoses, outcomes, batches, lineage, dead letters. Knows no web and no SQL."""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.artifacts.store import Artifact
from mendloop.core.contracts import TYPE_PREFIX
from mendloop.core.errors import CorruptArtifact
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.lineage import Lineage, lineage_of
from mendloop.gateway.domain.outcome_lines import ExampleLine, OutcomeFilter, OutcomeLine, Status
from mendloop.gateway.domain.paging import Page
from mendloop.gateway.domain.refusals import Unknown
from mendloop.gateway.domain.run_lines import LetterLine, SliceLine
from mendloop.gateway.use_cases import Ports, get_run, reading_pages, require_run
from mendloop.runs import messages
from mendloop.runs.fold import time_of
from mendloop.runs.parts import Batch, Diagnosis
from mendloop.runs.values import Stamp
from mendloop.v1 import diagnosis_pb2, evaluation_pb2, intervention_pb2


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a figure cannot hold; problem says why document is None."""

    kind: str
    name: str
    probe: str
    document: dict[str, object] | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A diagnosis with what its evidence points to."""

    round: int
    arm: str
    diagnosis: Diagnosis
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation of a run."""

    round: int
    arm: str
    evaluation_id: str
    checkpoint: str
    baseline: str
    outcomes: Artifact | None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """The batch that training may use, and a page of its examples."""

    round: int
    arm: str
    batch: Batch
    shifts: list[dict[str, object]]
    examples: Page[ExampleLine]


def list_slices(
    run_id: str,
    *,
    ports: Ports,
    asker: Principal,
    limit: int,
    cursor: str = "",
    q: str = "",
    cause: str = "",
    is_weak: bool | None = None,
) -> Page[SliceLine]:
    """Slices of a run with their trend, weak ones first."""
    with reading_pages(run_id, q, cause):
        require_run(run_id, ports=ports, asker=asker)
        return ports.pages.list_slices(run_id, limit=limit, cursor=cursor, q=q, cause=cause, is_weak=is_weak)


def get_diagnosis(run_id: str, round: int, slice_id: str, *, ports: Ports, asker: Principal, arm: str = "") -> Verdict:
    """The verdict about a slice, with what its evidence points to; an attachment that is damaged says so itself."""
    with reading_pages(run_id, slice_id):
        require_run(run_id, ports=ports, asker=asker)
        found = ports.pages.events_of(run_id, types=[_type("DiagnosisReady")], round=round, slice_id=slice_id)
        for envelope, message in found:
            assert isinstance(message, diagnosis_pb2.DiagnosisReady)
            if message.position.arm == arm:
                diagnosis = messages.diagnosis(message, Stamp(time_of(envelope), envelope.event_id))
                return Verdict(round, arm, diagnosis, _attachments(diagnosis, ports=ports))
    raise Unknown(f"round {round} of run {run_id[:100]!r} has no diagnosis of slice {slice_id[:100]!r}")


def list_outcomes(
    run_id: str,
    *,
    ports: Ports,
    asker: Principal,
    limit: int,
    cursor: str = "",
    round: int | None = None,
    arm: str = "",
    slice_id: str = "",
    status: Status = "all",
    q: str = "",
) -> tuple[Measured, Measured | None, Page[OutcomeLine]]:
    """What was measured, what it is compared with (the same items on the baseline), and a page of its outcomes.

    Without a round it is the newest one that was measured.
    """
    with reading_pages(run_id, slice_id, q):
        require_run(run_id, ports=ports, asker=asker)
        measured, other = _measured(run_id, ports=ports, round=round, arm=arm)
        wanted = OutcomeFilter(status, _conditions(run_id, slice_id, ports=ports), q)
        assert measured.outcomes is not None
        baseline = other.outcomes if other is not None else None
        page = ports.tables.outcomes(measured.outcomes, baseline=baseline, wanted=wanted, limit=limit, cursor=cursor)
        return measured, other, page


def get_batch(
    run_id: str, round: int, *, ports: Ports, asker: Principal, limit: int, cursor: str = "", arm: str = ""
) -> BatchPage:
    """The round's batch: what people left of it where they looked at it, else as it was made."""
    with reading_pages(run_id):
        require_run(run_id, ports=ports, asker=asker)
        found = ports.pages.events_of(run_id, types=[_type("DataBatchReady")], round=round)
        made = [message for _, message in found if isinstance(message, intervention_pb2.DataBatchReady)]
        of_arm = [message for message in made if message.position.arm == arm]
        if not of_arm:
            raise Unknown(f"round {round} of run {run_id[:100]!r} has no batch")
        message = next((one for one in of_arm if one.reviewed_from.sha256), of_arm[0])
        batch = messages.batch(message, Stamp(time_of(found[0][0]), found[0][0].event_id))
        items = [messages.capability_slice(item.slice) for one in of_arm for item in one.plan.items]
        examples: Page[ExampleLine] = Page((), "", 0)
        if batch.artifact is not None:
            names = {item.name: item.slice_id for item in items}
            examples = ports.tables.examples(batch.artifact, slices=names, limit=limit, cursor=cursor)
        return BatchPage(round, arm, batch, ports.tables.shifts(batch, run_id=run_id), examples)


def get_lineage(run_id: str, *, ports: Ports, asker: Principal) -> Lineage:
    """What came of what, from the base checkpoint to the gates."""
    return lineage_of(get_run(run_id, ports=ports, asker=asker))


def list_letters(*, ports: Ports, asker: Principal, limit: int, cursor: str = "", run_id: str = "") -> Page[LetterLine]:
    """Dead letters, newest first; of all runs where run_id is empty."""
    with reading_pages(run_id):
        if run_id:
            require_run(run_id, ports=ports, asker=asker)
        return ports.pages.list_letters(limit=limit, cursor=cursor, run_id=run_id)


def replay_letter(letter_id: str, *, ports: Ports, asker: Principal, by: str, reason: str) -> LetterLine:
    """Give a dead letter's event back to the service that refused it; asking again changes nothing."""
    with reading_pages(letter_id):
        letter = ports.letters.replay(letter_id, by=asker.acts_as(by), reason=reason)
    if letter is None:
        raise Unknown(f"there is no dead letter {letter_id[:100]!r}")
    return letter


def _type(name: str) -> str:
    return TYPE_PREFIX + name


def _attachments(diagnosis: Diagnosis, *, ports: Ports) -> tuple[Attachment, ...]:
    found: dict[str, Attachment] = {}
    for row in diagnosis.evidence:
        if row.attachment is not None and row.attachment.sha256 not in found:
            found[row.attachment.sha256] = _attachment(row.attachment, probe=row.probe, ports=ports)
    return tuple(found.values())


def _attachment(artifact: Artifact, *, probe: str, ports: Ports) -> Attachment:
    try:
        document = ports.tables.document(artifact)
    except CorruptArtifact:
        why = f"the artifact {artifact.sha256[:12]} is missing or damaged"
        return Attachment("unreadable", "", probe, None, why)
    content = document.get("document")
    return Attachment(
        str(document.get("kind", "")).replace("heat_map", "heatmap"),
        str(document.get("name", "")),
        probe,
        content if isinstance(content, dict) else {},
    )


def _measured(run_id: str, *, ports: Ports, round: int | None, arm: str) -> tuple[Measured, Measured | None]:
    found: dict[tuple[int, str], Measured] = {}
    events = ports.pages.events_of(run_id, types=[_type("EvalCompleted")])
    events.sort(key=lambda event: Stamp(time_of(event[0]), event[0].event_id))
    for _, message in events:
        assert isinstance(message, evaluation_pb2.EvalCompleted)
        found.setdefault((message.position.round, message.position.arm), _evaluation(message))
    rounds = [number for number, of_arm in found if of_arm == arm]
    wanted = round if round is not None else max(rounds, default=0)
    measured = found.get((wanted, arm))
    if measured is None or measured.outcomes is None:
        where = f" (arm {arm[:100]!r})" if arm else ""
        raise Unknown(f"round {wanted}{where} of run {run_id[:100]!r} has no outcomes")
    others = [one for one in found.values() if _is_baseline(one, measured)]
    return measured, max(others, key=lambda one: (one.round, one.arm == arm), default=None)


def _is_baseline(one: Measured, of: Measured) -> bool:
    """Whether it measured the checkpoint that the other was trained to be better than, before it."""
    is_other = one.evaluation_id != of.evaluation_id and one.round <= of.round
    return bool(of.baseline) and one.checkpoint == of.baseline and is_other


def _evaluation(message: evaluation_pb2.EvalCompleted) -> Measured:
    ready = message.checkpoint_ready
    return Measured(
        message.position.round,
        message.position.arm,
        message.evaluation_id,
        ready.checkpoint.sha256,
        ready.baseline.sha256,
        messages.artifact(message.outcomes),
    )


def _conditions(run_id: str, slice_id: str, *, ports: Ports) -> tuple[tuple[str, str], ...]:
    if not slice_id:
        return ()
    line = ports.pages.slice_line(run_id, slice_id)
    if line is None:
        raise Unknown(f"run {run_id[:100]!r} has no slice {slice_id[:100]!r}")
    return line.conditions
