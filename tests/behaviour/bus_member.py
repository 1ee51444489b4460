"""A group member as a process of its own, so that tests can kill and stop it: hold | copy.

hold GROUP MEMBER TOPIC OUTPUT: takes one event, says so, keeps it until SIGUSR1, completes it and says how that went.
copy GROUP MEMBER TOPIC OUTPUT: copies each event to OUTPUT until SIGTERM, taking up to 20 ms for each.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from behaviour_buses import arguments

from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope


def main() -> None:
    """Do what the arguments say."""
    factory, (mode, group, name, topic, output) = arguments(sys.argv)
    told = threading.Event()
    signal.signal(signal.SIGTERM if mode == "copy" else signal.SIGUSR1, lambda *_: told.set())
    consumer = factory().consumer(group, [topic], member=name)
    parent = os.getppid()
    while not told.is_set() and os.getppid() == parent:  # a test that was killed leaves nobody behind
        delivery = consumer.poll(timeout_s=0.2)
        if delivery is None:
            continue
        outputs = [Envelope(output, delivery.envelope.key, delivery.envelope.value)]
        if mode == "copy":
            time.sleep(random.uniform(0, 0.02))
            with contextlib.suppress(Retryable):  # given to another member meanwhile, or it comes again
                consumer.complete(delivery, outputs=outputs)
            continue
        print(f"held {delivery.envelope.value.decode()}", flush=True)
        while not told.wait(0.2) and os.getppid() == parent:
            consumer.heartbeat()
        try:
            consumer.complete(delivery, outputs=outputs)
            print("completed", flush=True)
        except Retryable as error:
            print(f"refused: {error}", flush=True)
    consumer.close()


if __name__ == "__main__":
    main()
