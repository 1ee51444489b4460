"""Runs a built image with runc as hardened as the chart runs it; where its files lie is buildah's business.

The user, environment and command are the image's own. The root is read-only, no capability is left, no privilege can be
gained; /work (a folder of the caller) and /tmp alone are written. The network is this machine's: bind to 127.0.0.1.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

STOP_S = 60


@contextmanager
def running(
    image: str, *, work: Path, log: Path, environment: Mapping[str, str], command: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A container of the image while the block runs; it is asked to end (SIGTERM) afterwards.

    Args:
        work: folder that becomes /work and is given to the image's user; it also gets the bundle's files beside it.
        log: file that gets what the container says.
        environment: added to the image's own.
        command: instead of the image's.
    """
    with ExitStack() as stack:
        root = stack.enter_context(mounted(image))
        bundle = log.parent / f"bundle-{uuid.uuid4().hex[:8]}"
        bundle.mkdir(parents=True)
        work.mkdir(exist_ok=True)
        spec = runtime_spec(configuration(image), root=root, work=work, environment=environment, command=command)
        user = spec["process"]["user"]
        _said("chown", f"{user['uid']}:{user['gid']}", str(work))
        (bundle / "config.json").write_text(json.dumps(spec))
        name = f"mendloop-{bundle.name}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["runc", "run", "--bundle", str(bundle), name], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        stack.callback(_end, process, name)
        yield process


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """The files of an image."""
    container = _said("buildah", "from", image)
    try:
        yield Path(_said("buildah", "mount", container))
    finally:
        _said("buildah", "rm", container)


def configuration(image: str) -> dict[str, Any]:
    """What an image says of its user, environment and command."""
    inspected: dict[str, Any] = json.loads(_said("buildah", "inspect", "--type", "image", image))
    return dict(inspected["OCIv1"]["config"])


def runtime_spec(
    config: Mapping[str, Any], *, root: Path, work: Path, environment: Mapping[str, str], command: Sequence[str] = ()
) -> dict[str, Any]:
    """The OCI runtime specification: the image's own configuration with the rights that the chart leaves."""
    uid, gid = map(int, config["User"].split(":"))
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": [*command] or [*config.get("Entrypoint", ()), *config["Cmd"]],
            "env": [*config["Env"], *(f"{name}={value}" for name, value in environment.items())],
            "cwd": config.get("WorkingDir", "/"),
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _memory("/dev", "mode=755"),
            _memory("/dev/shm", "mode=1777"),
            _memory("/tmp", "mode=1777"),
            {"destination": "/work", "type": "bind", "source": str(work), "options": ["rbind", "rw"]},
            {"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["rbind", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _memory(destination: str, mode: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", mode] if destination == "/tmp" else ["nosuid", mode]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}


def _end(process: subprocess.Popen[bytes], name: str) -> None:
    subprocess.run(["runc", "kill", name, "TERM"], capture_output=True, check=False)
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        subprocess.run(["runc", "kill", name, "KILL"], capture_output=True, check=False)
        process.wait()
    subprocess.run(["runc", "delete", "--force", name], capture_output=True, check=False)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
