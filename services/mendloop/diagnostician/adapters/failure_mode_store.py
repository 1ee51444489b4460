"""Failure modes in the artifact store: each version is an artifact, a named document says which one is current."""

from __future__ import annotations

import json

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact
from mendloop.diagnostician.domain.failure_modes import FailureModes

MEDIA_TYPE = "application/vnd.mendloop.failure-modes+json"
NAMESPACE = "failure-modes"


def save_modes(store: ArtifactStore, modes: FailureModes, *, name: str) -> Artifact:
    """Store a version, and make it the current one of this name."""
    data = json.dumps(modes.document(), sort_keys=True).encode()
    artifact = store.put(data, media_type=MEDIA_TYPE)
    store.put_doc(NAMESPACE, name, json.dumps({"sha256": artifact.sha256, "version": modes.version}).encode())
    return artifact


def load_modes(store: ArtifactStore, artifact: Artifact) -> FailureModes:
    """Read a version. Raises CorruptArtifact where it is none."""
    try:
        return FailureModes.of(json.loads(store.get(artifact)))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(
            f"failure modes {artifact.sha256[:12]} cannot be read: {error}; fit them again"
        ) from error


def current_modes(store: ArtifactStore, *, name: str) -> FailureModes | None:
    """The current version of this name; None where nothing was stored under it."""
    document = store.get_doc(NAMESPACE, name)
    artifact = store.find(str(json.loads(document)["sha256"]), media_type=MEDIA_TYPE) if document else None
    return load_modes(store, artifact) if artifact else None
