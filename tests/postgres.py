"""A real PostgreSQL for tests: `from postgres import postgres_url` gives a test module the session's server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

START_S = 30.0


def find_binaries() -> Path | None:
    """The folder of initdb and postgres: Debian's newest, for it is complete, or what is on the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    candidates = [*folders, *([Path(on_path).parent] if on_path else [])]
    return next((f for f in candidates if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _unprivileged() -> list[str] | None:
    """How to become a user that PostgreSQL accepts; empty where we are one, None where there is no way."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a fresh server on a Unix socket; skips where PostgreSQL is not installed."""
    binaries, prefix = find_binaries(), _unprivileged()
    if binaries is None:
        pytest.skip("PostgreSQL is missing: initdb and postgres are neither on the PATH nor under /usr/lib/postgresql")
    if prefix is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no setpriv with a user postgres or nobody")
    folder = Path(tempfile.mkdtemp(prefix="mend-pg-"))
    folder.chmod(0o777)
    data, log_path = folder / "data", folder / "log"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    initdb = [*prefix, str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
    made = subprocess.run(initdb, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=40"]
    with log_path.open("w") as log:
        server = subprocess.Popen(
            [*prefix, str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *options],
            env=environment,
            cwd="/",
            stdout=log,
            stderr=log,
        )
    try:
        _await_ready(server, log_path)
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(timeout=START_S)
        shutil.rmtree(folder, ignore_errors=True)


def _await_ready(server: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_S
    while "ready to accept connections" not in log_path.read_text():
        assert server.poll() is None, f"PostgreSQL stopped: {log_path.read_text()}"
        assert time.monotonic() < deadline, f"PostgreSQL is not up after {START_S} s: {log_path.read_text()}"
        time.sleep(0.05)
