"""Builds the real Kubernetes tools that the tests of the chart use, from their Go modules, into the cache.

`python tests/deploy/tools.py` builds what is missing, `tools.py helm kubeconform` these two alone. Needs a Go toolchain
and the Go module proxy, and for etcd, containerd and runc a Debian or Ubuntu; no root and no container engine. Minutes
on two quiet cores; afterwards nothing is built again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.34.2"
INSTALLED = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok@v0.8.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
}
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
KEDA_PROGRAMS = {"keda-operator": "./cmd/operator", "keda-adapter": "./cmd/adapter"}
KEDA_SCALERS = {
    "scaler.go": (),
    "kafka_scaler.go": ("NewKafkaScaler",),
    "cpu_memory_scaler.go": ("NewCPUMemoryScaler",),
}
"""What stays of KEDA's sources of lag, by file: half of what there is to compile belongs to the others (cloud SDKs)."""
NODE_COMPONENTS = ("kubelet", "kube-proxy")
POLICIES = {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0"}
"""Enforces network policies with iptables and ipset; the last release whose module the proxy has."""
OWN = {"dns": "github.com/coredns/coredns v1.12.4", "pause": ""}
"""Programs in `go/`, each with the module that it needs: a cluster's names, and what holds a pod's namespaces."""
NODE_PACKAGES = {"containerd": "containerd", "runc": "runc", "cni": "containernetworking-plugins"}
"""Of Debian or Ubuntu, unpacked where they are not installed."""
FOLDERS, CNI_FOLDER = ("usr/bin", "usr/sbin"), "usr/lib/cni"
ETCD_PACKAGE = "etcd-server"
"""Of Debian or Ubuntu, for 13 s instead of a minute of compiling; unpacked, not installed."""
CRDS = {
    "keda": (KEDA, "config/crd/bases"),
    "prometheus-operator": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd",
    ),
    "trainer": ("github.com/kubeflow/trainer/v2@v2.0.0", "manifests/base/crds"),
    "gateway-api": ("sigs.k8s.io/gateway-api@v1.4.0", "config/crd/standard"),
}
STAGES = ("sigs.k8s.io/kwok@v0.8.0", ("kustomize/stage/node/fast", "kustomize/stage/pod/fast"))
"""What kwok makes of nodes and pods: ready at once; the pods of Jobs complete."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the built tools lie."""

    root: Path

    def binary(self, name: str) -> Path:
        """The path of a tool, whether built or not."""
        return self.root / "bin" / name

    @property
    def crds(self) -> Path:
        """One folder of CRD manifests a project."""
        return self.root / "crds"

    @property
    def stages(self) -> Path:
        """kwok's stages."""
        return self.root / "stages"

    @property
    def swagger(self) -> Path:
        """Kubernetes' own OpenAPI document."""
        return self.root / "swagger.json"

    def missing(self) -> tuple[str, ...]:
        """Names of what is not there yet."""
        names = [name for name in (*INSTALLED, *COMPONENTS, *KEDA_PROGRAMS, "etcd") if not self.binary(name).is_file()]
        names += [f"CRDs of {name}" for name in CRDS if not (self.crds / name).is_dir()]
        return (*names, *([] if self.stages.is_dir() else ["stages"]), *([] if self.swagger.is_file() else ["swagger"]))

    @property
    def node_path(self) -> str:
        """A PATH with containerd and runc: this machine's, else the unpacked ones."""
        return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin", *(str(self._unpacked(f)) for f in FOLDERS)])

    @property
    def cni(self) -> Path:
        """The folder of the CNI plugins."""
        installed = Path("/", CNI_FOLDER)
        return installed if (installed / "ptp").is_file() else self._unpacked(CNI_FOLDER)

    def missing_for_node(self) -> tuple[str, ...]:
        """Names of what a node needs beside the control plane and is not there."""
        names = [name for name in (*NODE_COMPONENTS, *OWN, *POLICIES) if not self.binary(name).is_file()]
        names += [name for name in ("containerd", "runc") if shutil.which(name, path=self.node_path) is None]
        return (*names, *([] if (self.cni / "ptp").is_file() else ["cni"]))

    def _unpacked(self, folder: str) -> Path:
        return self.root / "packages" / folder


def tools() -> Tools:
    """The tools in this user's cache (MENDLOOP_CACHE, else ~/.cache/mendloop)."""
    cache = os.environ.get("MENDLOOP_CACHE") or Path.home() / ".cache" / "mendloop"
    return Tools(Path(cache) / f"kube-{KUBERNETES}")


def build(target: Tools, *, only: Sequence[str] = ()) -> None:
    """Build what is missing, or of that the named tools alone and the texts that tests compare with.

    Raises CalledProcessError where a build fails; what is done stays.
    """
    target.binary("").mkdir(parents=True, exist_ok=True)
    installed = {**INSTALLED, **POLICIES}
    for name in only or installed:
        if not target.binary(name).is_file():
            _go("install", "-ldflags", "-s -w", installed[name], GOBIN=str(target.binary("")))
    _copy_sources(target)
    if only:
        return
    _take_etcd(target)
    for name in NODE_PACKAGES:
        if name in target.missing_for_node():
            _unpack(NODE_PACKAGES[name], target.root / "packages")
    for name in OWN:
        _build_own(target, name)
    _build_components(target)
    _build_keda(target)


def _copy_sources(target: Tools) -> None:
    """What the modules carry as text: CRDs, kwok's stages, Kubernetes' OpenAPI document."""
    for name, (module, folder) in CRDS.items():
        if not (target.crds / name).is_dir():
            _copy(_downloaded(module) / folder, target.crds / name)
    module, folders = STAGES
    for folder in folders:
        if not (target.stages / folder).is_dir():
            _copy(_downloaded(module) / folder, target.stages / folder)
    if not target.swagger.is_file():
        shutil.copyfile(
            _downloaded(f"k8s.io/kubernetes@v{KUBERNETES}") / "api/openapi-spec/swagger.json", target.swagger
        )


def _build_components(target: Tools) -> None:
    """Kubernetes cannot be `go install`ed (its go.mod replaces 31 modules by folders): a module of ours builds it."""
    todo = [name for name in (*COMPONENTS, *NODE_COMPONENTS) if not target.binary(name).is_file()]
    if not todo:
        return
    module = target.root / "module"
    module.mkdir(exist_ok=True)
    published = (_downloaded(f"k8s.io/kubernetes@v{KUBERNETES}") / "go.mod").read_text()
    (module / "go.mod").write_text(_scratch_module(published))
    imports = "".join(f'\t_ "k8s.io/kubernetes/cmd/{name}"\n' for name in (*COMPONENTS, *NODE_COMPONENTS))
    (module / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\nimport (\n{imports})\n")
    _go("mod", "tidy", at=module)
    version = f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
    for name in todo:
        _go("build", "-ldflags", version, "-o", target.binary(name), f"k8s.io/kubernetes/cmd/{name}", at=module)


def _build_keda(target: Tools) -> None:
    """KEDA cannot be `go install`ed either (a replace line): a writable copy of its module builds itself."""
    todo = [name for name in KEDA_PROGRAMS if not target.binary(name).is_file()]
    if not todo:
        return
    source = target.root / "keda"
    if not source.is_dir():
        _copy(_downloaded(KEDA), source)
    _keep_scalers(source)
    for name in todo:
        arguments = ("build", "-ldflags", "-s -w", "-o", target.binary(name), KEDA_PROGRAMS[name])
        _go(*arguments, at=source, GOFLAGS="-mod=readonly -p=2")


def _keep_scalers(source: Path) -> None:
    """Leave the other scalers out; all else of KEDA stays as it is."""
    for path in (source / "pkg" / "scalers").glob("*.go"):
        if path.name not in KEDA_SCALERS:
            path.unlink()
    builder = source / "pkg" / "scaling" / "scalers_builder.go"
    case = re.compile(r"\tcase [^\n]*:\n\t\treturn scalers\.(\w+)\([^\n]*\n")
    builder.write_text(
        case.sub(lambda found: found[0] if found[1] in KEDA_SCALERS.values() else "", builder.read_text())
    )


def _take_etcd(target: Tools) -> None:
    if target.binary("etcd").is_file():
        return
    found = shutil.which("etcd")
    if found:
        target.binary("etcd").symlink_to(found)
        return
    with tempfile.TemporaryDirectory() as scratch:
        _unpack(ETCD_PACKAGE, Path(scratch))
        shutil.copy(Path(scratch, "usr", "bin", "etcd"), target.binary("etcd"))


def _unpack(package: str, folder: Path) -> None:
    """A Debian package's files, without installing it."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, check=True)
        subprocess.run(["dpkg", "-x", next(Path(scratch).glob("*.deb")), folder], check=True)


def _build_own(target: Tools, name: str) -> None:
    """A program of `go/`, in a module of its own in the cache."""
    if target.binary(name).is_file():
        return
    module = target.root / f"module-{name}"
    module.mkdir(exist_ok=True)
    needed = f"require {OWN[name]}\n" if OWN[name] else ""
    (module / "go.mod").write_text(f"module mendloop.local/{name}\n\ngo 1.24.0\n\n{needed}")
    shutil.copy(Path(__file__).parent / "go" / name / "main.go", module)
    _go("mod", "tidy", at=module)
    _go("build", "-ldflags", "-s -w", "-o", target.binary(name), ".", at=module)


def _scratch_module(published: str) -> str:
    """A go.mod that takes Kubernetes' staging modules from the proxy instead of from folders."""
    staged = re.findall(r"^\s*(k8s\.io/\S+) => \./staging", published, re.MULTILINE)
    go = re.search(r"^go (\S+)", published, re.MULTILINE)
    assert go is not None
    minor = KUBERNETES.split(".", 1)[1]
    replaced = "".join(f"\t{name} => {name} v0.{minor}\n" for name in staged)
    return (
        f"module mendloop.local/kube\n\ngo {go.group(1)}\n\n"
        f"require k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{replaced})\n"
    )


def _downloaded(module: str) -> Path:
    """The folder of a module's source in Go's module cache."""
    answer = _go("mod", "download", "-json", module)
    return Path(json.loads(answer)["Dir"])


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    # Go's module cache is read-only, folders too; a copy of it must be deletable.
    for path in sorted(source.rglob("*")):
        if path.is_file():
            (part / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part / path.relative_to(source))
    part.rename(target)


def _go(*arguments: str | Path, at: Path | None = None, **environment: str) -> str:
    print("go", *arguments, file=sys.stderr, flush=True)
    settings = {"GOFLAGS": "-mod=mod -p=2", "GOTOOLCHAIN": "auto", "CGO_ENABLED": "0", **environment}
    done = subprocess.run(
        ["go", *map(str, arguments)],
        cwd=at or Path.home(),
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    if (tools().missing() or tools().missing_for_node()) and shutil.which("go") is None:
        sys.exit(f"{', '.join(tools().missing())}: cannot be built without a Go toolchain on the PATH")
    build(tools(), only=sys.argv[1:])
    print(tools().root)
