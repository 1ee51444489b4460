"""Certificates for servers that prove themselves to each other in tests; good for two days."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


def authority(folder: Path, name: str) -> Pair:
    """A new certificate authority: ca.crt and ca.key in the folder."""
    return _issue(folder, "ca", subject=name)


def issued(folder: Path, name: str, *, by: Pair, subject: str, hosts: str = "") -> Pair:
    """A certificate that the authority signed: NAME.crt and NAME.key; hosts as in `IP:127.0.0.1,DNS:name`."""
    names = ("-addext", f"subjectAltName={hosts}") if hosts else ()
    return _issue(folder, name, "-CA", str(by.certificate), "-CAkey", str(by.key), *names, subject=subject)


def openssl(*arguments: str | Path) -> None:
    """Run openssl. Raises CalledProcessError."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _issue(folder: Path, name: str, *further: str, subject: str) -> Pair:
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    files = ("-keyout", pair.key, "-out", pair.certificate)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={subject}", *files, *further)
    return pair
