"""`mend doctor`: checks what this machine has and says what is missing and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mendloop.bus.base import Bus
from mendloop.cli.deployment import Deployment
from mendloop.core.contracts import DEAD_LETTER_TOPIC

NEEDED_FREE_BYTES = 1 << 30
EXTRAS = {
    "evaluator, diagnostician, trainer": (("torch", "transformers", "pyarrow", "scipy"), "pip install 'mendloop[all]'"),
    "data-generator": (("datasketch", "pyarrow"), "pip install 'mendloop[data-generator]'"),
    "controller": (("sqlalchemy", "alembic", "scipy"), "pip install 'mendloop[controller]'"),
    "gateway": (("fastapi", "uvicorn"), "pip install 'mendloop[gateway]'"),
    "report": (("matplotlib", "jinja2"), "pip install 'mendloop[report]'"),
}
OPTIONAL = {
    "lm-evaluation-harness tasks": (("lm_eval",), "pip install 'mendloop[lm-eval]'"),
    "vLLM backend": (("vllm",), "pip install 'mendloop[vllm]' on a machine with a GPU"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing. is_needed tells a fault from a missing extra."""

    what: str
    is_ok: bool
    detail: str
    advice: str = ""
    is_needed: bool = True


def examine(deployment: Deployment) -> list[Finding]:
    """Every check, in the order in which a person would go about them."""
    findings = [_python(), _machine(), _disk(deployment.home)]
    findings += [_packages(use, names, advice) for use, (names, advice) in EXTRAS.items()]
    findings += [_packages(use, names, advice, is_needed=False) for use, (names, advice) in OPTIONAL.items()]
    findings += [_program("java", "BUS=kafka on this machine", "install a JRE, 17 or later")]
    findings += [_program("mvn", "fetching Kafka's jars", "install Maven")]
    findings += [_program("postgres", "PostgreSQL tests", "install PostgreSQL", beside=_postgres_folders())]
    findings += [
        _reached("event bus", deployment.bus_url, lambda: _read(deployment.bus())),
        _reached(
            "artifact store", deployment.artifacts_uri, lambda: deployment.store().put(b"", media_type="text/plain")
        ),
        _reached("sealed store", deployment.sealed_uri, lambda: deployment.sealed_store().doc_names("doctor")),
    ]
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), version, "Mendloop needs Python 3.11 or later")


def _machine() -> Finding:
    cores = os.cpu_count() or 1
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    detail = f"{cores} cores, {memory_gib:.0f} GiB, {_gpu()}"
    return Finding("machine", memory_gib >= 4, detail, "all services together take about 2 GiB: close something")


def _gpu() -> str:
    return "NVIDIA driver found" if Path("/proc/driver/nvidia/version").exists() else "no GPU (not needed for the demo)"


def _disk(home: Path) -> Finding:
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free at {folder}"
    return Finding("disk", free >= NEEDED_FREE_BYTES, detail, "free at least 1 GiB or choose another --home")


def _packages(use: str, names: tuple[str, ...], advice: str, *, is_needed: bool = True) -> Finding:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(names)
    return Finding(use, not missing, detail, advice, is_needed)


def _program(name: str, use: str, advice: str, *, beside: tuple[str, ...] = ()) -> Finding:
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *beside)))
    return Finding(f"{name} ({use})", path is not None, path or "not found", advice, is_needed=False)


def _postgres_folders() -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


def _read(bus: Bus) -> None:
    bus.ensure_topics([DEAD_LETTER_TOPIC])
    bus.read([DEAD_LETTER_TOPIC], limit=1)
    bus.close()


def _reached(what: str, place: str, probe: Callable[[], object]) -> Finding:
    try:
        probe()
    except Exception as error:  # a doctor reports every fault and goes on with the next check
        return Finding(what, False, f"{place}: {type(error).__name__}: {error}", "check the address and permissions")
    return Finding(what, True, place)
