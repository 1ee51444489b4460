"""`python -m mendloop.bus.broker`: a single-node Kafka broker in the foreground until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from mendloop.bus.broker import DEFAULT_CACHE, KAFKA_VERSION, BrokerUnavailable, is_listening, running_broker


def main() -> int:
    """Run the broker; the exit status."""
    cache = Path(os.environ.get("MENDLOOP_CACHE") or DEFAULT_CACHE).expanduser()
    parser = argparse.ArgumentParser(
        prog="python -m mendloop.bus.broker",
        description="A single-node Apache Kafka broker on 127.0.0.1 for trying Mendloop; not for production.",
    )
    parser.add_argument("--port", type=int, default=9092, help="port, 0 takes a free one (default: 9092)")
    parser.add_argument(
        "--data-dir", type=Path, default=cache / "kafka-data", help="where the log is kept (%(default)s)"
    )
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with running_broker(cache=cache, port=options.port, data_dir=options.data_dir) as bootstrap:
            print(f"Kafka {KAFKA_VERSION} is ready: MENDLOOP_BUS=kafka:{bootstrap} (Ctrl-C ends it)", flush=True)
            while not stopped.wait(1.0):
                if not is_listening(int(bootstrap.rpartition(":")[2])):
                    raise BrokerUnavailable(f"the broker at {bootstrap} ended; see {options.data_dir}/broker.log")
    except BrokerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
