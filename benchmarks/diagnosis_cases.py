"""Planted cases for benchmarks/diagnosis.py: every probe's evidence of each case folder, kept as JSON and reused.

A probe's rows are measured again where the case or the probe's module changed; a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from mendloop.diagnostician.adapters.case_folder import open_case
from mendloop.diagnostician.adapters.probe_set import all_probes
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Attachment, Cost, Evidence
from mendloop.diagnostician.domain.probe_records import by_probe_of
from mendloop.diagnostician.domain.probing import SAMPLING, Probe, investigate

PLANTED = "planted.json"


@dataclass(frozen=True)
class PlantedCase:
    """A case with its truth. causes is empty where a control was planted that is no cause of the list."""

    name: str
    family: str
    seed: int
    faults: tuple[str, ...]
    causes: frozenset[Cause]
    severities: tuple[float, ...]
    sha: str
    evidence: tuple[Evidence, ...]

    @property
    def is_single(self) -> bool:
        """Whether one cause of the list was planted."""
        return len(self.causes) == 1

    @property
    def cause(self) -> Cause:
        """The cause of a single fault; UNKNOWN for a control."""
        return next(iter(self.causes), Cause.UNKNOWN)


def folders(root: Path) -> list[Path]:
    """Case folders below the root that were written whole."""
    return sorted(path.parent for path in root.rglob(PLANTED) if (path.parent / "case.json").is_file())


def bites(folder: Path) -> bool:
    """Whether the planted fault made the slice fail; the others are counted, not judged."""
    return bool(json.loads((folder / PLANTED).read_text()).get("bites", True))


def read(root: Path, *, cache: Path) -> list[PlantedCase]:
    """The cases whose evidence is complete."""
    names = {probe.name for probe in all_probes()}
    cases = []
    for folder in folders(root):
        if not bites(folder):
            continue
        kept = _kept(folder, cache=cache)
        if kept and names <= kept.keys():
            cases.append(_case(folder, kept))
    return cases


def measure(root: Path, *, cache: Path, workers: int) -> Iterator[tuple[str, float, str]]:
    """Run what is missing; yields the case, its seconds and what failed ("" where nothing did)."""
    cache.mkdir(parents=True, exist_ok=True)
    waiting = [folder for folder in folders(root) if bites(folder) and _missing(folder, cache=cache)]
    if workers <= 1:
        for folder in waiting:
            yield _measure(folder, cache)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_measure, folder, cache) for folder in waiting]):
            yield done.result()


def _measure(folder: Path, cache: Path) -> tuple[str, float, str]:
    import torch

    torch.set_num_threads(1)
    started = time.perf_counter()
    missing = _missing(folder, cache=cache)
    findings = investigate(
        open_case(folder), missing, is_clear=lambda rows: False, clock=time.perf_counter, before_probe=lambda: None
    )
    kept, found = _kept(folder, cache=cache), by_probe_of(findings.evidence)
    kept[SAMPLING] = {"code": "", "rows": [_document(row) for row in found.pop(SAMPLING)]}
    for probe in missing:
        rows = found.pop(probe.name, [])
        kept[probe.name] = {"code": _code(probe), "rows": [_document(row) for row in rows]}
    path = _path(folder, cache=cache)
    path.with_suffix(".part").write_text(json.dumps(kept))
    path.with_suffix(".part").replace(path)
    failed = [f"{row.probe}: {row.reading}" for row in findings.evidence if row.measurement == "run"]
    return folder.name, time.perf_counter() - started, "; ".join(failed)


def _missing(folder: Path, *, cache: Path) -> list[Probe]:
    kept = _kept(folder, cache=cache)
    return [probe for probe in all_probes() if kept.get(probe.name, {}).get("code") != _code(probe)]


def _code(probe: Probe) -> str:
    source = Path(inspect.getfile(type(probe))).read_bytes()
    return hashlib.sha256(source).hexdigest()[:16]


def _sha(folder: Path) -> str:
    return str(json.loads((folder / PLANTED).read_text())["sha"])


def _path(folder: Path, *, cache: Path) -> Path:
    return cache / f"{_sha(folder)[:32]}.json"


def _kept(folder: Path, *, cache: Path) -> dict[str, dict[str, object]]:
    path = _path(folder, cache=cache)
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _case(folder: Path, kept: dict[str, dict[str, object]]) -> PlantedCase:
    truth = json.loads((folder / PLANTED).read_text())
    names = [SAMPLING, *(probe.name for probe in all_probes())]
    rows = [row for name in names for row in kept[name]["rows"]]  # type: ignore[attr-defined]  # JSON of ours
    causes = [Cause(fault["cause"]) for fault in truth["faults"]]
    return PlantedCase(
        name=folder.name,
        family=truth["family"],
        seed=truth["seed"],
        faults=tuple(fault.get("name", fault["cause"]) for fault in truth["faults"]),
        causes=frozenset(causes) - {Cause.UNKNOWN},
        severities=tuple(float(fault["severity"]) for fault in truth["faults"]),
        sha=truth["sha"],
        evidence=tuple(_evidence(row) for row in rows),
    )


def _document(row: Evidence) -> dict[str, object]:
    return asdict(row) | {"attachment": None}  # heat maps are for people: no judge reads them


def _evidence(row: dict[str, object]) -> Evidence:
    cost = Cost(**row["cost"])  # type: ignore[arg-type]  # JSON of ours
    attachment: Attachment | None = None
    return Evidence(**{**row, "cost": cost, "attachment": attachment})  # type: ignore[arg-type]  # JSON of ours


def hash_of(cases: Sequence[PlantedCase]) -> str:
    """One hash of which cases there are."""
    return hashlib.sha256("\n".join(sorted(case.sha for case in cases)).encode()).hexdigest()
