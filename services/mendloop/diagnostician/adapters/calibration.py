"""The calibration that ships with the package, and calibrations as JSON files."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from mendloop.core.errors import CorruptArtifact
from mendloop.core.events import stable_hash
from mendloop.diagnostician.domain.calibration import Calibration

SHIPPED = "calibration.json"
CHECKSUM = "sha256"


def shipped_calibration() -> Calibration | None:
    """The packaged calibration; None where the package has none, and the judge by rule takes over."""
    file = resources.files(__package__).joinpath(SHIPPED)
    return read_calibration(file.read_text(), name=SHIPPED) if file.is_file() else None


def load_calibration(path: Path) -> Calibration:
    """A calibration of one's own. Raises CorruptArtifact for a file that is none."""
    return read_calibration(path.read_text(), name=str(path))


def read_calibration(text: str, *, name: str) -> Calibration:
    """Parse a document. Raises CorruptArtifact where it is cut, changed by hand, or of another format."""
    try:
        document = json.loads(text)
        said, found = document.pop(CHECKSUM), checksum(document)
        if said != found:
            raise ValueError(f"its checksum is {found[:12]} and it says {str(said)[:12]}")
        return Calibration.of(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        advice = "fit it again with benchmarks/diagnosis.py --fit"
        raise CorruptArtifact(f"calibration {name} cannot be read: {error}; {advice}") from error


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a document with its checksum; the same calibration gives the same bytes."""
    document = json.loads(json.dumps(calibration.document()))
    text = json.dumps({**document, CHECKSUM: checksum(document)}, indent=1, sort_keys=True)
    path.write_text(text + "\n")


def checksum(document: object) -> str:
    """Hash of a document's values, whatever their order."""
    return stable_hash("calibration", json.dumps(document, sort_keys=True))
