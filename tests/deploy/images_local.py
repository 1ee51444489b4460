"""Images of one static binary, written by hand as OCI archives: nothing to pull from, no container engine needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

REGISTRY = "mendloop.local"
"""A name that no registry has; kubelet never pulls what is there."""
MANIFEST, CONFIG, LAYER = (
    f"application/vnd.oci.image.{what}" for what in ("manifest.v1+json", "config.v1+json", "layer.v1.tar+gzip")
)


def write_image(archive: Path, *, name: str, binary: Path) -> str:
    """An OCI archive whose only file is the binary, which it runs as its entry point; the image's name."""
    layer = _tar({f"bin/{name}": (binary.read_bytes(), 0o755)})
    packed = gzip.compress(layer, mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/bin/{name}"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [packed, json.dumps(config).encode()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _described(blobs[1], CONFIG),
        "layers": [_described(packed, LAYER)],
    }
    blobs.append(json.dumps(manifest).encode())
    full = f"{REGISTRY}/{name}:test"
    entry = {**_described(blobs[2], MANIFEST), "annotations": {"io.containerd.image.name": full}}
    files = {f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}": (blob, 0o644) for blob in blobs}
    files["index.json"] = (json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(), 0o644)
    files["oci-layout"] = (b'{"imageLayoutVersion": "1.0.0"}', 0o644)
    archive.write_bytes(_tar(files))
    return full


def _described(blob: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
