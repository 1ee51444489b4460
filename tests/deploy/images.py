"""Builds the images for real where no registry and no Docker engine are: `python tests/deploy/images.py [NAME ...]`.

Names are services, `kafka` and `postgres`; without any it makes all. buildah runs the steps of the Dockerfiles in a
chroot, on a base that debootstrap makes of Debian's packages in the place of python:3.11-slim. Each image goes to
images/NAME.tar in the cache, under the name that chart and compose file call it by.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import yaml
from deploy.tools import tools

from mendloop.bus.broker import jars
from mendloop.core.contracts import SERVICES

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).parent / "standins"
BASE = "localhost/mendloop-python-standin:bookworm"
PACKAGES = ("ca-certificates", "netbase", "tzdata", "python3-dev", "python3-venv", "python-is-python3")
"""What python:3.11-slim has and a minimal Debian lacks."""
THIRD_PARTY = {"kafka": "kafkaImage", "postgres": "postgresImage"}
"""Images of others, by the value of the chart that names them."""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PIP, UV = "/etc/pip.conf", "/etc/uv/uv.toml"
ENGINE_ARGUMENTS = ("--isolation", "chroot", "--network", "host")


def missing() -> str:
    """Why no image can be built here; empty where one can."""
    if os.geteuid() != 0:
        return "images are built and run as root here"
    lacking = [program for program in ("buildah", "debootstrap", "runc") if shutil.which(program) is None]
    return f"{', '.join(lacking)}: not on the PATH (apt-get install {' '.join(lacking)})" if lacking else ""


def folder() -> Path:
    """Where the archives are kept."""
    return tools().root.parent / "images"


@cache
def build_module() -> ModuleType:
    """deploy/docker/build.py, which is no package."""
    spec = importlib.util.spec_from_file_location("build_images", ROOT / "deploy" / "docker" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_base() -> str:
    """The stand-in base, made once a machine: minutes. Raises CalledProcessError."""
    if (
        subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode
        == 0
    ):
        return BASE
    with tempfile.TemporaryDirectory(prefix="mendloop-base-") as scratch:
        debian = Path(scratch, "debian")
        packages = ",".join(PACKAGES)
        _run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", debian)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(debian / leftover)
            (debian / leftover).mkdir()
        # Builds lay this machine's settings over these: without them an image would keep empty files of those names.
        for path in (PIP, UV):
            (debian / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (debian / path[1:]).touch()
        file = Path(scratch, "Dockerfile")
        file.write_text(
            'FROM scratch\nCOPY . /\nENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nCMD ["python3"]\n'
        )
        _run("buildah", "build", "--quiet", "--file", file, "--tag", BASE, debian)
    return BASE


def build(name: str) -> str:
    """Build one image, of a service or of `THIRD_PARTY`; its name in the engine. Raises BuildFailed."""
    builder = build_module()
    base = make_base()
    with tempfile.TemporaryDirectory(prefix="mendloop-host-") as scratch:
        arguments = (*ENGINE_ARGUMENTS, *host_settings(Path(scratch)))
        if name in THIRD_PARTY:
            todo = _third_party(name, base=base, arguments=arguments)
        else:
            todo = builder.builds([name], engine="buildah", base=base, engine_arguments=arguments)[0]
        builder.run(todo, show=lambda line: print(line, file=sys.stderr, flush=True))
    return str(todo.image)


def _third_party(name: str, *, base: str, arguments: Sequence[str]) -> object:
    values = yaml.safe_load((ROOT / "charts" / "mendloop" / "values.yaml").read_text())
    image = canonical(values["dev"][THIRD_PARTY[name]])
    command = ["buildah", "build", "--layers", *arguments, "--build-arg", f"BASE={base}", "--tag", image]
    if name == "kafka":
        command += ["--build-context", f"jars={jars(tools().root.parent)}"]
    return build_module().Build(image, ((*command, str(STAND_INS / name)),))


def canonical(image: str) -> str:
    """The whole name of an image, as containerd and Docker understand a short one."""
    first, _, rest = image.partition("/")
    if not rest:
        return f"docker.io/library/{image}"
    return image if "." in first or ":" in first else f"docker.io/{image}"


def host_settings(scratch: Path) -> list[str]:
    """Volumes that let pip and uv inside a step reach what they reach here: certificates and indexes.

    Volumes of a build are no part of the image; environment variables would be.
    """
    pip = configparser.ConfigParser(interpolation=None)
    pip.read(PIP)
    if not pip.has_section("global"):
        pip.add_section("global")
    pip.set("global", "cert", CERTIFICATES)
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "DEFAULT_TIMEOUT"):
        if value := os.environ.get(f"PIP_{name}"):
            pip.set("global", name.lower().replace("_", "-"), value)
    with (scratch / "pip.conf").open("w") as file:
        pip.write(file)
    index = os.environ.get("UV_DEFAULT_INDEX") or pip.get("global", "index-url", fallback="")
    named = f'[[index]]\nurl = "{index}"\ndefault = true\n' if index else ""
    (scratch / "uv.toml").write_text(f"native-tls = true\n{named}")
    volumes = [f"{scratch / 'pip.conf'}:{PIP}:ro", f"{scratch / 'uv.toml'}:{UV}:ro"]
    certificates = os.environ.get("SSL_CERT_FILE") or CERTIFICATES
    if Path(certificates).is_file():
        volumes.append(f"{certificates}:{CERTIFICATES}:ro")
    return [word for volume in volumes for word in ("--volume", volume)]


def save(image: str, path: Path) -> None:
    """Write an image as an archive that containerd and Docker load; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    _run("buildah", "push", "--quiet", image, f"docker-archive:{part}:{image}")
    part.rename(path)


def kept(services: Iterable[str], *, version: str) -> tuple[list[Path], list[str]]:
    """Archives that are there: services' images of this version and all of `THIRD_PARTY`; names of those missing."""
    paths = {name: folder() / f"{name}.tar" for name in (*services, *THIRD_PARTY)}
    of_this = {name: path.is_file() and (name in THIRD_PARTY or _is_of(path, version)) for name, path in paths.items()}
    return [paths[name] for name, is_it in of_this.items() if is_it], [n for n, is_it in of_this.items() if not is_it]


def _is_of(archive: Path, version: str) -> bool:
    """Whether an archive holds an image with this tag."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        return any(tag.endswith(f":{version}") for entry in json.load(manifest) for tag in entry["RepoTags"])


def _run(*command: str | Path) -> None:
    # Their progress is for a person: standard output is for what a caller reads.
    subprocess.run([str(word) for word in command], stdout=sys.stderr, check=True)


def main(names: Sequence[str]) -> None:
    """Build and save the named images, default all, the small ones first."""
    if reason := missing():
        sys.exit(reason)
    known = (*THIRD_PARTY, *sorted(SERVICES, key=lambda name: name not in {"gateway", "controller"}))
    if unknown := set(names) - set(known):
        sys.exit(f"{', '.join(sorted(unknown))}: no image; there are {', '.join(known)}")
    for name in names or known:
        try:
            save(build(name), folder() / f"{name}.tar")
        except build_module().BuildFailed as error:
            sys.exit(f"not built: {error}")
        print(folder() / f"{name}.tar", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
