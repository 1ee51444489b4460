"""Keeps targets.json as the port files of a home say: `python deploy/prometheus/targets.py .mendloop`, until Ctrl-C."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

LOOK_S = 2.0


def targets(home: Path) -> str:
    """The document of Prometheus' file discovery; without port files that are not written yet, and gRPC's."""
    rows = []
    for path in sorted((home / "ports").glob("*-[0-9]*")):
        if path.name.endswith("-grpc"):
            continue
        try:
            port = int(path.read_text())
        except (OSError, ValueError):
            continue
        rows.append({"targets": [f"127.0.0.1:{port}"], "labels": {"replica": path.name}})
    return json.dumps(rows, indent=1)


def write(path: Path, text: str) -> None:
    """Replace the file at once: Prometheus may read it any time."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)


def main() -> int:
    """Follow the home given as argument; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python deploy/prometheus/targets.py HOME", file=sys.stderr)
        return 2
    home, path, known = Path(sys.argv[1]), Path(__file__).with_name("targets.json"), ""
    try:
        while True:
            text = targets(home)
            if text != known:
                write(path, text)
                known = text
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
