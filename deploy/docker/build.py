"""Builds the images of the services, or prints the commands: `python deploy/docker/build.py [--release] [SERVICE ...]`.

A release refuses a base without a digest: a tag may be another image tomorrow. Each image carries its own SBOM, and
buildx attaches another one and the build's provenance.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class NotPinned(Exception):
    """A base has no digest."""


def base_image(images: dict[str, dict[str, dict[str, str | None]]], *, is_release: bool) -> str:
    """The base, by digest where one is known. Raises NotPinned for a release without one."""
    base = images["bases"]["python"]
    if base["digest"]:
        return f"{base['image']}@{base['digest']}"
    if is_release:
        raise NotPinned(
            f"{base['image']} has no digest in deploy/docker/images.json; look it up where a registry is reached:"
            f" docker buildx imagetools inspect {base['image']}"
        )
    return str(base["image"])


def commands(services: Sequence[str], *, registry: str, is_release: bool, torch_index: str) -> list[list[str]]:
    """One docker command a service. Raises NotPinned, and KeyError for an unknown service."""
    images = json.loads((HERE / "images.json").read_text())
    base = base_image(images, is_release=is_release)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    prefix = f"{registry}/" if registry else ""
    found = []
    for service in services or sorted(images["services"]):
        image = images["services"][service]
        arguments = {"PYTHON_IMAGE": base, "SERVICE": service, "EXTRAS": image["extras"]}
        if "vllm" in image:
            arguments["VLLM_VERSION"] = image["vllm"]
        if image["file"] == "Dockerfile.cpu" and torch_index:
            arguments["TORCH_INDEX"] = torch_index
        found.append(
            [
                *("docker", "buildx", "build", "--sbom=true", "--provenance=mode=max"),
                *(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")),
                *("--file", f"deploy/docker/{image['file']}", "--tag", f"{prefix}mendloop/{service}:{version}"),
                *(["--push"] if registry else ["--load"]),
                ".",
            ]
        )
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Build, or print with --print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("services", nargs="*", help="default: all")
    parser.add_argument("--registry", default="", help="push there; without one images are loaded into the engine")
    parser.add_argument("--release", action="store_true", help="refuse a base that is not pinned by digest")
    parser.add_argument("--torch-index", default="", help="index with torch for the CPU, for services without a GPU")
    parser.add_argument("--print", action="store_true", help="print the commands and run none")
    given = parser.parse_args(words)
    try:
        todo = commands(
            given.services, registry=given.registry, is_release=given.release, torch_index=given.torch_index
        )
    except NotPinned as error:
        sys.exit(f"not built: {error}")
    for command in todo:
        print(shlex.join(command), flush=True)
        if not given.print:
            subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
