"""Builds the images of the services, or prints the commands: `python deploy/docker/build.py [--release] [SERVICE ...]`.

A release refuses a base without a digest: a tag may be another image tomorrow. Each image carries its own SBOM, and
Docker's buildx attaches another one and the build's provenance; buildah attaches neither.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEFAULT_REGISTRY = "docker.io"
"""What Docker, Kubernetes and the compose file mean by a name without a registry."""
ENGINES = {
    "docker": ("docker", "buildx", "build", "--progress=plain", "--sbom=true", "--provenance=mode=max"),
    "buildah": ("buildah", "build", "--layers"),
}


class NotPinned(Exception):
    """The base of a release is not the one of images.json by its digest."""


class BuildFailed(Exception):
    """The engine could not build or push an image; says which one and at which step."""


@dataclass(frozen=True, slots=True)
class Build:
    """The commands that make one image, in order."""

    image: str
    commands: tuple[tuple[str, ...], ...]


def base_image(images: dict[str, dict[str, dict[str, str | None]]], *, is_release: bool, instead: str = "") -> str:
    """The base, by digest where one is known. Raises NotPinned for a release without one, or with another base."""
    base = images["bases"]["python"]
    if instead and is_release:
        raise NotPinned(f"{instead}: a release is built on the base of deploy/docker/images.json; leave out --base")
    if instead:
        return instead
    if base["digest"]:
        return f"{base['image']}@{base['digest']}"
    if is_release:
        raise NotPinned(
            f"{base['image']} has no digest in deploy/docker/images.json; look it up where a registry is reached:"
            f" docker buildx imagetools inspect {base['image']}"
        )
    return str(base["image"])


def builds(
    services: Sequence[str] = (),
    *,
    engine: str = "docker",
    registry: str = "",
    base: str = "",
    is_release: bool = False,
    torch_index: str = "",
    engine_arguments: Sequence[str] = (),
) -> list[Build]:
    """What makes the images of the services, default all.

    Args:
        registry: where the images are pushed; without one they stay in the engine.
        base: another image than images.json names, for trying where no registry is reached.
        engine_arguments: go to the engine's build as they are.

    Raises NotPinned, and KeyError for an unknown service.
    """
    images = json.loads((HERE / "images.json").read_text())
    base = base_image(images, is_release=is_release, instead=base)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = []
    for service in services or sorted(images["services"]):
        name = f"{registry or DEFAULT_REGISTRY}/mendloop/{service}:{version}"
        build = (
            *ENGINES[engine],
            *engine_arguments,
            *_arguments(service, images["services"][service], base=base, torch_index=torch_index),
            *("--file", f"deploy/docker/{images['services'][service]['file']}", "--tag", name),
        )
        if engine == "docker":
            found.append(Build(name, ((*build, "--push" if registry else "--load", "."),)))
        else:
            found.append(Build(name, ((*build, "."), *((("buildah", "push", name),) if registry else ()))))
    return found


def _arguments(service: str, image: dict[str, str], *, base: str, torch_index: str) -> Iterable[str]:
    values = {"PYTHON_IMAGE": base, "SERVICE": service, "EXTRAS": image["extras"]}
    if "vllm" in image:
        values["VLLM_VERSION"] = image["vllm"]
    if image["file"] == "Dockerfile.cpu" and torch_index:
        values["TORCH_INDEX"] = torch_index
    return (word for name, value in values.items() for word in ("--build-arg", f"{name}={value}"))


def run(build: Build, *, show: Callable[[str], object] = print) -> None:
    """Run the commands of a build from the root of the source, showing what they say. Raises BuildFailed."""
    for command in build.commands:
        show(shlex.join(command))
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        steps = Steps()
        for line in process.stdout:
            show(line.rstrip("\n"))
            steps.read(line)
        status = process.wait()
        if status != 0:
            raise BuildFailed(f"{build.image}: {command[0]} exited {status} at: {steps.failed or shlex.join(command)}")


class Steps:
    """Reads off an engine's output at which step of a Dockerfile it is, and which step failed."""

    def __init__(self) -> None:
        self.failed = ""
        self._titles: dict[str, str] = {}

    def read(self, line: str) -> None:
        """One line: buildah's steps come one after the other, those of Docker's stages at the same time."""
        if found := re.match(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: .*", line):
            self.failed = found.group()
        if found := re.match(r"#(\d+) (\[.*\] .*)", line):
            self._titles[found.group(1)] = found.group(2)
        if found := re.match(r"#(\d+) ERROR", line):
            self.failed = self._titles.get(found.group(1), line.strip())


def main(words: Sequence[str] | None = None) -> None:
    """Build, or print with --print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("services", nargs="*", help="default: all")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="docker", help="what builds (default: docker)")
    parser.add_argument("--registry", default="", help="push there; without one images stay in the engine")
    parser.add_argument("--release", action="store_true", help="refuse a base that is not pinned by digest")
    parser.add_argument("--base", default="", help="another base, for trying where no registry is reached")
    parser.add_argument("--torch-index", default="", help="index with torch for the CPU, for services without a GPU")
    parser.add_argument("--engine-arguments", default="", help="further words for the engine's build, quoted as one")
    parser.add_argument("--print", action="store_true", help="print the commands and run none")
    given = parser.parse_args(words)
    try:
        todo = builds(
            given.services,
            engine=given.engine,
            registry=given.registry,
            base=given.base,
            is_release=given.release,
            torch_index=given.torch_index,
            engine_arguments=shlex.split(given.engine_arguments),
        )
        for build in todo:
            if given.print:
                print(*map(shlex.join, build.commands), sep="\n")
            else:
                run(build)
    except (NotPinned, BuildFailed) as error:
        sys.exit(f"not built: {error}")


if __name__ == "__main__":
    main()
